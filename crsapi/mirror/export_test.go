package mirror

// Names returns the number of strings that are held.
func (m *Mirror) Names() int { return len(m.table.names.values) }
