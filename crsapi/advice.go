package crsapi

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"strings"
)

// Advice returns one line for the operator about the error of a call to an API: which
// flag, environment variable, permission or setting to change. It is empty if err is
// not an *Error. It contains no secret, and no text of a response.
func Advice(err error, api API) string {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	text, reason, unresolved := "", string(e.Reason), (*net.DNSError)(nil)
	switch {
	case len(e.codes()) > 0 || e.HTTPStatus != 0:
		text = e.meaning().advice
	case !e.Requested:
		text = advice[reason+" without a request"]
	case errors.As(e.Err, &unresolved) && unresolved.Name == (&url.URL{Host: e.host}).Hostname(): // not the name of a proxy
		text = advice["name "+string(api)]
	}
	endpoint := "--crs.v3-endpoint"
	if api == API20 {
		endpoint = "--crs.endpoint"
	}
	return strings.NewReplacer("{host}", cmp.Or(e.host, "the API"), "{endpoint}", endpoint, "{api}", string(api)).
		Replace(cmp.Or(text, advice[reason+" "+e.action], advice[reason+" "+string(api)], advice[reason]))
}

// advice has a line for each reason. Some are for one API only, or for an error without
// a request. The advice for a code is in meanings.
var advice = map[string]string{
	"auth":                      "The credentials were refused: set a valid key pair, with its token if it is temporary.",
	"auth without a request":    "The credentials could not be read from their source: fix the error above.",
	"denied 2.0":                "Attach a CAM policy that allows redis:GetRedisTaskList on qcs::redis:*:*:instance/* to the user or role of the key; redis:Describe* does not include it.",
	"denied 3.0":                allow30,
	"denied":                    "Attach a CAM policy that allows redis:GetRedisTaskList on the resource * to the user or role of the key.",
	"denied DescribeInstances":  "Attach a CAM policy that allows redis:DescribeInstances on the resource * to the user or role of the key, or set --crs.inventory=0.",
	"retired 2.0":               "The vendor has retired API 2.0, for all or for this account: use --crs.api=3.0 (or auto). " + allow30,
	"retired":                   "The vendor has retired API {api}.",
	"throttled":                 "The request quota is used up: lower --crs.rate-limit, scrape less often, or check which other programs use this account.",
	"timeout":                   "{host} did not respond in time: check the network path (route, firewall, proxy), or raise --crs.request-timeout.",
	"timeout without a request": "Reading the list takes too long: narrow it with --crs.lookback or --crs.redis-id, or raise --crs.rate-limit if the quota allows it.",
	"network":                   "Cannot connect to {host}: check DNS, route, firewall, the proxy of the environment, and the CA certificates.",
	"name 2.0":                  "The name {host} does not resolve: check DNS and the proxy of the environment. If the vendor has switched API 2.0 off, use --crs.api=3.0.",
	"server":                    "The API reports an internal error: try again in a few minutes.",
	"decode":                    "The response is not from the API: see {endpoint}, and check for a proxy that responds instead of {host}.",
	"decode without a request":  "The responses contradict each other: the list changes too fast, or the API differs from its documents. Run --check and report its output.",
	"api":                       "The API refused the request for an unclassified reason: see the error above, {endpoint} and --crs.region.",
}

const allow30 = "Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource * to the user or role of the key."
