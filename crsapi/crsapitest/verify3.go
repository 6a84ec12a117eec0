package crsapitest

import (
	"bytes"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	path3    = "/"
	version3 = "2018-04-12"
	maxBody3 = 10 << 20 // bytes

	defaultLimit3 = 20
	maxLimit3     = 100

	requestID3 = "3c140219-cfe9-470e-b241-907877d6fb03"
)

// refusal3 is an error response of API 3.0.
type refusal3 struct{ code, message string }

func refuse3(code string, message ...string) *refusal3 {
	return &refusal3{code, strings.Join(message, " ")}
}

// verify3 verifies a request of API 3.0, and sets dialect, region and query of
// the exchange. If status is not 0, the gateway responds with it.
func (s *Simulator) verify3(x *exchange, r *http.Request) (p params, status int, refused *refusal3) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody3+1))
	if err != nil {
		return nil, http.StatusBadRequest, nil
	}
	x.raw = url.Values{
		"Authorization": r.Header.Values("Authorization"),
		"Body":          {string(body)},
		"Token":         r.Header.Values("X-TC-Token"),
	}.Encode()
	name := r.Header.Get("X-TC-Region")
	if x.list = s.list(name); x.list != nil {
		x.regionName = name
		s.counts.begin(name)
	}

	if x.dialect, refused = checkHeaders3(r); refused != nil {
		return nil, 0, refused
	}
	x.api, x.action = x.dialect.api, x.dialect.action
	if len(body) > maxBody3 {
		return nil, 0, refuse3("RequestSizeLimitExceeded", "the body is larger than 10 MB")
	}
	if refused = s.authenticate3(x, r, body); refused != nil {
		return nil, 0, refused
	}
	if x.list == nil {
		return nil, 0, refuse3("UnsupportedRegion", "the service is not available in the region", clip(name))
	}
	if p, refused = parseBody3(body); refused != nil {
		return nil, 0, refused
	}
	x.query, refused = x.dialect.parseQuery(p, x.zone)
	for i := range p {
		p[i].value = plainValue(p[i].value)
	}
	return p, 0, refused
}

// checkHeaders3 checks everything that does not need the account.
func checkHeaders3(r *http.Request) (*dialect, *refusal3) {
	if r.Method != http.MethodPost {
		return nil, refuse3("UnsupportedProtocol", "the simulator serves POST only")
	}
	if r.URL.RawQuery != "" {
		return nil, refuse3("InvalidRequest", "the query string of a POST must be empty")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, refuse3("InvalidRequest", "Content-Type must be application/json")
	}
	for _, name := range []string{"X-TC-Action", "X-TC-Version", "X-TC-Timestamp", "X-TC-Region", "X-TC-Token", "X-TC-Language", "Authorization"} {
		switch n := len(r.Header.Values(name)); {
		case n > 1:
			return nil, refuse3("InvalidParameter", name, "occurs more than once")
		case n == 0 || r.Header.Get(name) == "":
			switch name {
			case "X-TC-Token", "X-TC-Language":
			case "Authorization":
				return nil, refuse3("AuthFailure.InvalidAuthorization", name, "is missing")
			default:
				return nil, refuse3("MissingParameter", name, "is missing")
			}
		}
	}
	d := dialectOf(r.Header.Get("X-TC-Action"))
	if d == nil {
		return nil, refuse3("InvalidAction", "the action", clip(r.Header.Get("X-TC-Action")), "does not exist")
	}
	if version := r.Header.Get("X-TC-Version"); version != version3 {
		return nil, refuse3("NoSuchVersion", "the version", clip(version), "does not exist")
	}
	return d, nil
}

// authenticate3 verifies the signature, the token and the time of a request.
func (s *Simulator) authenticate3(x *exchange, r *http.Request, body []byte) *refusal3 {
	invalid := func(problem string) *refusal3 {
		return refuse3("AuthFailure.InvalidAuthorization", "Authorization", problem)
	}
	timestampText := r.Header.Get("X-TC-Timestamp")
	timestamp, ok := parseInt(timestampText, 1, lastTimestamp)
	if !ok {
		return refuse3("InvalidParameter", "X-TC-Timestamp must be in UNIX seconds")
	}
	a, problem := parseAuthorization(r.Header.Get("Authorization"))
	x.signature = a.signature
	switch {
	case problem != "":
		return invalid(problem)
	case a.date != date3(timestamp):
		return invalid("must have the UTC date of X-TC-Timestamp in its Credential")
	case a.service != service3:
		return invalid("must have the service " + service3 + " in its Credential")
	}
	canonical, ok := canonical3(r, a.signed, body)
	if !ok {
		return invalid("names a header that does not occur exactly once")
	}
	source := source3(canonical, timestampText, a.date, a.service)
	x.source = a.secretID + " " + r.Header.Get("X-TC-Token") + " " + canonical + " " + source

	s.mu.Lock()
	account, ok := s.accounts[a.secretID]
	window := s.window
	s.mu.Unlock()
	if !ok {
		return refuse3("AuthFailure.SecretIdNotFound", "The SecretId is not found, please ensure that your SecretId is correct.")
	}
	if !hmac.Equal([]byte(a.signature), []byte(sign3(account.SecretKey, a.date, a.service, source))) {
		return refuse3("AuthFailure.SignatureFailure", "The provided credentials could not be validated. Please check your signature is correct.")
	}
	if !hmac.Equal([]byte(r.Header.Get("X-TC-Token")), []byte(account.Token)) {
		return refuse3("AuthFailure.TokenFailure", "The token is invalid or expired.")
	}
	if age := x.now.Unix() - timestamp; max(age, -age) > int64(window/time.Second) {
		return refuse3("AuthFailure.SignatureExpire", fmt.Sprintf("X-TC-Timestamp differs from the server time, which is %d", x.now.Unix()))
	}
	return nil
}

// parseBody3 returns the fields of a JSON object, sorted by name. A value is
// JSON. It is stricter than encoding/json: a name must be unique.
func parseBody3(body []byte) (params, *refusal3) {
	malformed := refuse3("InvalidParameter", "the body must be one JSON object in UTF-8")
	if !utf8.Valid(body) {
		return nil, malformed
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, malformed
	}
	var p params
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, malformed
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return nil, malformed
		}
		p = append(p, param{name, string(value)})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, malformed
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed
	}
	slices.SortFunc(p, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(p); i++ {
		if p[i].name == p[i-1].name {
			return nil, refuse3("InvalidParameter", clip(p[i].name), "occurs more than once")
		}
	}
	return p, nil
}

// plainValue returns the text of a JSON string, and other JSON unchanged.
func plainValue(raw string) string {
	if text, ok := stringValue(raw); ok {
		return text
	}
	return raw
}

func stringValue(raw string) (text string, ok bool) {
	return text, raw[0] == '"' && json.Unmarshal([]byte(raw), &text) == nil
}

func arrayValue(raw string) (elements []json.RawMessage, ok bool) {
	return elements, raw[0] == '[' && json.Unmarshal([]byte(raw), &elements) == nil
}

// parseQuery checks the parameters of the action. An error of type and an error
// of value have different codes.
func (d *dialect) parseQuery(p params, zone *time.Location) (taskQuery, *refusal3) {
	q := taskQuery{filter: anyTask()}
	if d.list {
		q.limit = defaultLimit3
	}
	for _, e := range p {
		check, known := d.check(e.name, &q, zone)
		if !known {
			return taskQuery{}, refuse3("UnknownParameter", clip(e.name), "is not a parameter of", d.action)
		}
		if code, want := check(e.value); code != "" {
			return taskQuery{}, refuse3(code, e.name, want)
		}
	}
	switch {
	case !d.list && q.taskID == 0:
		return taskQuery{}, refuse3("MissingParameter", d.taskID, "is missing")
	case q.filter.begin > q.filter.end:
		return taskQuery{}, refuse3("InvalidParameterValue", "EndTime is before BeginTime")
	}
	return q, nil
}

// checkValue checks a JSON value. It returns "" or an error code with what the
// parameter must be.
type checkValue func(raw string) (code, want string)

const (
	wrongType  = "InvalidParameter"
	wrongValue = "InvalidParameterValue"
)

// check returns the check of a parameter, which also stores its value in q.
func (d *dialect) check(name string, q *taskQuery, zone *time.Location) (check checkValue, known bool) {
	if !d.list {
		return checkNumber(func(n int64) string {
			q.taskID = n
			return positive(n)
		}), name == d.taskID
	}
	switch name {
	case "Limit":
		return checkNumber(func(n int64) string {
			q.limit = int(min(n, math.MaxInt32))
			return positive(n)
		}), true
	case "Offset":
		return checkNumber(func(n int64) string {
			q.offset = int(min(n, math.MaxInt32))
			if n < 0 {
				return "must not be negative"
			}
			return ""
		}), true
	case d.instanceID:
		return checkText(func(s string) string {
			q.filter.redisID = s
			return notEmpty(s)
		}), true
	case d.instanceName:
		return checkText(func(s string) string {
			q.filter.redisName = s
			return notEmpty(s)
		}), true
	case "BeginTime":
		return checkTime(&q.filter.begin, zone), true
	case "EndTime":
		return checkTime(&q.filter.end, zone), true
	case "TaskTypes":
		return checkArray(checkText(func(s string) string {
			code, ok := parseCode(s, d.documented)
			if !ok {
				return "must hold codes of the documents"
			}
			q.filter.types.add(code)
			return ""
		})), true
	}
	if d.api == apiTCE {
		return checkNumber(func(n int64) string {
			if n < int64(crsapi.StatusError) || n > int64(crsapi.StatusFailed) {
				return "must be a documented status"
			}
			q.filter.statuses.add(crsapi.Status(n))
			return ""
		}), name == "TaskStatus"
	}
	switch name {
	case "Result":
		return checkArray(checkNumber(func(n int64) string {
			switch n {
			case 0, 1, 2:
				q.filter.statuses.add(crsapi.Status(n))
			case result3Failed:
				q.filter.statuses.add(crsapi.StatusFailed)
				q.filter.statuses.add(crsapi.StatusError)
				q.filter.statuses.add(result3Failed)
			default:
				return "must hold 0, 1, 2 or 4"
			}
			return ""
		})), true
	case "ProjectIds", "TaskStatus", "OperatorUin": // documented, without effect
		return checkArray(checkNumber(func(int64) string { return "" })), true
	case "OperateUin":
		return checkArray(checkText(func(string) string { return "" })), true
	default:
		return nil, false
	}
}

// result3Failed is the Result of a task that failed. API 2.0 has two statuses
// for it.
const result3Failed = 4

// result3 returns the Result of a status.
func result3(status crsapi.Status) crsapi.Status {
	if status == crsapi.StatusFailed || status == crsapi.StatusError {
		return result3Failed
	}
	return status
}

func checkNumber(use func(n int64) (want string)) checkValue {
	return func(raw string) (string, string) {
		n, ok := parseInt(raw, math.MinInt64, math.MaxInt64)
		if !ok {
			return wrongType, "must be a whole number"
		}
		return valueError(use(n))
	}
}

func checkText(use func(s string) (want string)) checkValue {
	return func(raw string) (string, string) {
		s, ok := stringValue(raw)
		if !ok {
			return wrongType, "must be a string"
		}
		return valueError(use(s))
	}
}

func checkArray(check checkValue) checkValue {
	return func(raw string) (code, want string) {
		elements, ok := arrayValue(raw)
		if !ok {
			return wrongType, "must be an array"
		}
		for _, element := range elements {
			if code, want = check(string(element)); code != "" {
				return code, want
			}
		}
		return "", ""
	}
}

func checkTime(at *int64, zone *time.Location) checkValue {
	return checkText(func(s string) string {
		var ok bool
		if *at, ok = parseTime(s, zone); !ok {
			return "must be a time as in 2021-12-30 00:00:00"
		}
		return ""
	})
}

func valueError(want string) (string, string) {
	if want == "" {
		return "", ""
	}
	return wrongValue, want
}

func positive(n int64) string {
	if n < 1 {
		return "must be positive"
	}
	return ""
}

func notEmpty(s string) string {
	if s == "" {
		return "must not be empty"
	}
	return ""
}
