package crsapi

// LongRegion returns the name of a region under API 3.0 for a short name of API 2.0,
// such as ap-guangzhou for gz. It returns any other name as it is.
func LongRegion(name string) string { return longRegion(name) }
