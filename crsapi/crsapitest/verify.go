package crsapitest

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	action = "GetRedisTaskList"

	// module is the code in the error table of GetRedisTaskList. It is part of
	// message; the code of such an error is 4000.
	module = "(11201)"

	lastTimestamp = 253402300799 // the end of the year 9999
)

// source returns the text that is signed: all parameters except Signature,
// sorted by name as sent, with values that are not URL-encoded.
func source(method, host, path string, p params) string {
	var b strings.Builder
	b.WriteString(method)
	b.WriteString(host)
	b.WriteString(path)
	sep := byte('?')
	for _, e := range p {
		if e.name == "Signature" {
			continue
		}
		// The vendor's SDKs treat such a value as a file to upload.
		if method == "POST" && strings.HasPrefix(e.value, "@") {
			continue
		}
		b.WriteByte(sep)
		sep = '&'
		b.WriteString(strings.ReplaceAll(e.name, "_", "."))
		b.WriteByte('=')
		b.WriteString(e.value)
	}
	return b.String()
}

// sign returns the Signature of source for a SignatureMethod.
func sign(key, source, method string) string {
	h := sha1.New
	if method == "HmacSHA256" {
		h = sha256.New
	}
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(source))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// authenticate checks the common parameters. It stores a Nonce only if the
// signature is correct.
func (s *Simulator) authenticate(p params, source string, now time.Time) *refusal {
	for _, name := range []string{"Action", "Region", "Timestamp", "Nonce", "SecretId", "Signature"} {
		if _, ok := p.get(name); !ok {
			return invalidCommon(name, "is missing")
		}
	}
	if got, _ := p.get("Action"); got != action {
		return refuse(6100, "this host does not serve the Action")
	}
	nonceText, _ := p.get("Nonce")
	nonceValue, ok := parseInt(nonceText, 1, math.MaxInt64)
	if !ok {
		return invalidCommon("Nonce", "must be a positive integer")
	}
	timestampText, _ := p.get("Timestamp")
	timestamp, ok := parseInt(timestampText, 1, lastTimestamp)
	if !ok {
		return invalidCommon("Timestamp", "must be in UNIX seconds")
	}

	secretID, _ := p.get("SecretId")
	s.mu.Lock()
	account, ok := s.accounts[secretID]
	window := s.window
	s.mu.Unlock()
	if !ok {
		return refuse(4104, "")
	}
	method, _ := p.get("SignatureMethod")
	signature, _ := p.get("Signature")
	if !hmac.Equal([]byte(signature), []byte(sign(account.SecretKey, source, method))) {
		return refuse(4100, "")
	}
	token, _ := p.get("Token")
	if !hmac.Equal([]byte(token), []byte(account.Token)) {
		return refuse(4105, "")
	}

	serverTime := fmt.Sprintf("server time is %d, %s", now.Unix(), now.UTC().Format(timeLayout))
	switch age, most := now.Unix()-timestamp, int64(window/time.Second); {
	case age > most:
		return refuse(4200, "the request has expired: Timestamp is too old, "+serverTime)
	case age < -most:
		return refuse(4500, "Timestamp is ahead of the server, "+serverTime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.nonces.use(nonce{secretID, nonceValue}, now, window) {
		return refuse(4500, "Nonce was used before, "+serverTime)
	}
	return nil
}

// taskQuery holds the parameters of the action.
type taskQuery struct {
	limit, offset int
	filter        filter

	taskID int64 // of DescribeTaskInfo
}

// filter is comparable because it is the key of a cache.
type filter struct {
	redisID, redisName string // empty for any
	begin, end         int64  // UNIX seconds, both included
	endOfTask          bool   // end bounds the end of a task, not its submission
	ended              bool   // with endOfTask: only tasks that have ended are within
	fractions          bool   // end does not include the hidden fractions of its second
	statuses           statusSet
	types              codeSet
}

// statusSet is a set of statuses, of which the lowest is -1. An empty set in a
// filter means any status.
type statusSet uint8

func (s *statusSet) add(status crsapi.Status) { *s |= 1 << (status + 1) }

func (s statusSet) has(status crsapi.Status) bool {
	return status >= -1 && status <= 6 && s&(1<<(status+1)) != 0
}

// taskTypes are the documented values of taskType, in the document's order. They
// have a prefix that taskName does not have.
func taskTypes() []string {
	return []string{
		"task_importRdb",
		"task_exportBackup",
		"task_restoreBackup",
		"task_restoreStream",
		"task_backupInstance",
		"task_cleanInstance",
		"task_resizeInstance",
	}
}

func anyTask() filter { return filter{begin: math.MinInt64, end: math.MaxInt64} }

func parseQuery(p params, zone *time.Location) (taskQuery, *refusal) {
	q := taskQuery{filter: anyTask()}
	limit, offset := int64(-1), int64(-1)
	for _, e := range p {
		var ok bool
		want := ""
		name, index, array := strings.Cut(e.name, ".")
		switch {
		case array && name == "taskStatus":
			want = "must be one of the documented statuses, taskStatus.n with n starting at 0"
			ok = arrayIndex(p, name, index) && addStatus(&q.filter.statuses, e.value)
		case array && name == "taskType":
			want = "must be one of the documented types, taskType.n with n starting at 0"
			ok = arrayIndex(p, name, index) && addType(&q.filter.types, e.value)
		default:
			switch e.name {
			case "Action", "Region", "Timestamp", "Nonce", "SecretId", "Signature", "SignatureMethod", "Token":
				ok = true
			case "limit":
				want = "must be a positive integer"
				limit, ok = parseInt(e.value, 1, math.MaxInt32)
			case "offset":
				want = "must be 0 or a positive integer"
				offset, ok = parseInt(e.value, 0, math.MaxInt32)
			case "redisId":
				q.filter.redisID, ok = e.value, true
			case "redisName":
				q.filter.redisName, ok = e.value, true
			case "beginTime":
				want = "must be a time as in 2017-02-08 16:46:34"
				q.filter.begin, ok = parseTime(e.value, zone)
			case "endTime":
				want = "must be a time as in 2017-02-08 16:46:34"
				q.filter.end, ok = parseTime(e.value, zone)
			default:
				want = "is not a parameter of " + action
			}
		}
		if !ok {
			return taskQuery{}, invalid(e.name, want)
		}
	}
	switch {
	case limit < 0:
		return taskQuery{}, invalid("limit", "is missing")
	case offset < 0:
		return taskQuery{}, invalid("offset", "is missing")
	case q.filter.begin > q.filter.end:
		return taskQuery{}, invalid("endTime", "is before beginTime")
	}
	q.limit, q.offset = int(limit), int(offset)
	return q, nil
}

func addStatus(set *statusSet, value string) bool {
	n, ok := parseInt(value, int64(crsapi.StatusError), int64(crsapi.StatusFailed))
	if ok {
		set.add(crsapi.Status(n))
	}
	return ok
}

func addType(set *codeSet, value string) bool {
	if !slices.Contains(taskTypes(), value) {
		return false
	}
	code := codes[strings.TrimPrefix(value, "task_")]
	set.add(code)
	if code == backupCode {
		set.add(autoBackupCode)
	}
	return true
}

// arrayIndex reports whether index is less than the number of elements of the
// array. Names are unique, so if this is true for all elements, the indexes start
// at 0 and have no gap.
func arrayIndex(p params, name, index string) bool {
	n := int64(0)
	for _, e := range p {
		if strings.HasPrefix(e.name, name+".") {
			n++
		}
	}
	_, ok := parseInt(index, 0, n-1)
	return ok
}

// parseInt is stricter than strconv.ParseInt: it accepts no plus sign and no
// leading zero.
func parseInt(s string, lowest, highest int64) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s || n < lowest || n > highest {
		return 0, false
	}
	return n, true
}

// parseTime is stricter than time.Parse, which accepts fractions of a second and
// an hour with one digit.
func parseTime(s string, zone *time.Location) (int64, bool) {
	t, err := time.ParseInLocation(timeLayout, s, zone)
	if err != nil || t.Format(timeLayout) != s {
		return 0, false
	}
	return t.Unix(), true
}

// refusal is an error response of the API.
type refusal struct {
	code              int
	codeDesc, message string
}

// refuse returns a refusal with the documented codeDesc, and with the documented
// message if message is empty.
func refuse(code int, message string) *refusal {
	codeDesc, documented := documentedError(code)
	if message == "" {
		message = documented
	}
	return &refusal{code, codeDesc, message}
}

// invalidCommon rejects a common parameter, or the encoding of the request.
func invalidCommon(name, what string) *refusal {
	return refuse(4000, clip(name)+" "+what)
}

// invalid rejects a parameter of the action.
func invalid(name, what string) *refusal {
	return refuse(4000, module+"InvalidParameter: "+clip(name)+" "+what)
}

// clip shortens a name that the client chose.
func clip(name string) string {
	const most = 40
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "..."
	}
	return name
}

// codeName returns the code of API 3.0 that means the same as a code of API
// 2.0.
func codeName(code int) string {
	switch code {
	case 4000:
		return "InvalidParameter"
	case 4100:
		return "AuthFailure.SignatureFailure"
	case 4101, 4102, 4103, 4110:
		return "AuthFailure.UnauthorizedOperation"
	case 4104:
		return "AuthFailure.SecretIdNotFound"
	case 4105:
		return "AuthFailure.TokenFailure"
	case 4106:
		return "AuthFailure.MFAFailure"
	case 4200, 4500:
		return "AuthFailure.SignatureExpire"
	case 4300:
		return "UnauthorizedOperation"
	case 4400, 4420, 4480:
		return "RequestLimitExceeded"
	case 4600:
		return "UnsupportedProtocol"
	case 5000:
		return "ResourceNotFound"
	case 5100:
		return "FailedOperation"
	case 6000:
		return "InternalError"
	case 6100:
		return "NoSuchVersion"
	case 6200:
		return "ServiceUnavailable"
	default:
		return "Code" + strconv.Itoa(code)
	}
}

// documentedError returns codeDesc and message of a code. The documents give
// codeDesc for only a few codes.
func documentedError(code int) (codeDesc, message string) {
	switch code {
	case 4000:
		return "InvalidParameter", "invalid or missing parameter"
	case 4100:
		return "AuthFailure", "authentication failed: wrong signature"
	case 4101, 4102, 4103, 4110:
		return "", "not authorized for the API or the resource"
	case 4104:
		return "", "SecretId does not exist"
	case 4105:
		return "", "token error"
	case 4106:
		return "", "MFA failed"
	case 4200:
		return "", "the request has expired"
	case 4300:
		return "", "access denied"
	case 4400, 4420, 4480:
		return "RequestLimitExceeded", "request quota exceeded"
	case 4500:
		return "", "replay: Nonce was used before, or the clocks differ"
	case 4600:
		return "", "protocol not supported"
	case 5000:
		return "", "resource not found"
	case 5100:
		return "", "operation failed, try later"
	case 6000:
		return "", "internal error, try later"
	case 6100:
		return "", "version not supported, or wrong host for the action"
	case 6200:
		return "", "under maintenance, try later"
	default:
		return "", "failed"
	}
}
