package crsapitest

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	actionList = "DescribeTaskList"
	actionInfo = "DescribeTaskInfo"

	version3 = "2018-04-12"
	maxBody  = 10 << 20 // bytes, documented for API 3.0

	defaultLimit3 = 20
	maxLimit3     = 100
)

// verify3 verifies a request of API 3.0, and sets API, region and query of the
// exchange. It returns the response to a request that it refuses.
func (s *Simulator) verify3(x *exchange, r *http.Request) (refused render) {
	x.request.API = api3
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return htmlPage(http.StatusBadRequest)
	}
	x.raw = url.Values{
		"Authorization": r.Header.Values("Authorization"),
		"Body":          {string(body)},
		"Token":         r.Header.Values("X-TC-Token"),
	}.Encode()
	region := r.Header.Get("X-TC-Region")
	s.setRegion(x, region)
	if refused = x.checkHeaders3(r); refused != nil {
		return refused
	}
	if len(body) > maxBody {
		return envelope("RequestSizeLimitExceeded", "the body is larger than 10 MB")
	}
	if refused = s.authenticate3(x, r, body); refused != nil {
		return refused
	}
	if x.list == nil {
		return envelope("UnsupportedRegion", "the service is not available in the region "+region)
	}
	x.query, refused = parseQuery3(x.request.API, x.request.Action, body, x.zone)
	return refused
}

// checkHeaders3 checks everything that does not need the account.
func (x *exchange) checkHeaders3(r *http.Request) render {
	if r.Method != http.MethodPost {
		return envelope("UnsupportedProtocol", "the simulator serves POST only")
	}
	if r.URL.RawQuery != "" {
		return envelope("InvalidRequest", "the query string of a POST must be empty")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return envelope("InvalidRequest", "Content-Type must be application/json")
	}
	for _, header := range []struct{ name, missing string }{
		{"Authorization", "AuthFailure.InvalidAuthorization"},
		{"X-TC-Action", "MissingParameter"},
		{"X-TC-Version", "MissingParameter"},
		{"X-TC-Timestamp", "MissingParameter"},
		{"X-TC-Region", "MissingParameter"},
		{"X-TC-Token", ""},
		{"X-TC-Language", ""},
	} {
		if len(r.Header.Values(header.name)) > 1 {
			return envelope("InvalidParameter", header.name+" occurs more than once")
		}
		if header.missing != "" && r.Header.Get(header.name) == "" {
			return envelope(header.missing, header.name+" is missing")
		}
	}
	switch name := r.Header.Get("X-TC-Action"); name {
	case actionList, actionInfo, actionInstances:
		x.request.Action = name
	case action:
		x.request.API, x.request.Action = apiTCE, name
	default:
		return envelope("InvalidAction", "the action "+name+" does not exist")
	}
	if version := r.Header.Get("X-TC-Version"); version != version3 {
		return envelope("NoSuchVersion", "the version "+version+" does not exist")
	}
	return nil
}

// authenticate3 verifies the signature, the token and the time of a request.
func (s *Simulator) authenticate3(x *exchange, r *http.Request, body []byte) render {
	invalid := func(problem string) render {
		return envelope("AuthFailure.InvalidAuthorization", "Authorization "+problem)
	}
	timestampText, token := r.Header.Get("X-TC-Timestamp"), r.Header.Get("X-TC-Token")
	timestamp, ok := parseInt(timestampText, 1, lastTimestamp)
	if !ok {
		return envelope("InvalidParameter", "X-TC-Timestamp must be in UNIX seconds")
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
	x.source = a.secretID + " " + token + " " + canonical + " " + source

	account, ok := s.account(a.secretID)
	age := x.now.Unix() - timestamp
	switch {
	case !ok:
		return envelope("AuthFailure.SecretIdNotFound", "The SecretId is not found, please ensure that your SecretId is correct.")
	case !hmac.Equal([]byte(a.signature), []byte(sign3(account.SecretKey, a.date, a.service, source))):
		return envelope("AuthFailure.SignatureFailure", "The provided credentials could not be validated. Please check your signature is correct.")
	case !hmac.Equal([]byte(token), []byte(account.Token)):
		return envelope("AuthFailure.TokenFailure", "The token is invalid or expired.")
	case max(age, -age) > window:
		return envelope("AuthFailure.SignatureExpire", fmt.Sprintf("X-TC-Timestamp differs from the server time, which is %d", x.now.Unix()))
	}
	return nil
}

// The parameters of the actions. A field that is nil was not sent.
type (
	parameters3 struct {
		Limit, Offset      *int64
		InstanceID         *string `json:"InstanceId"`
		InstanceName       *string
		BeginTime, EndTime *string
		TaskTypes          []string
		Result             []int64

		// The documents have these too. They have no effect.
		ProjectIDs              []int64 `json:"ProjectIds"`
		TaskStatus, OperatorUin []int64
		OperateUin              []string
	}
	parametersTCE struct {
		Limit, Offset      *int64
		RedisID            *string `json:"RedisId"`
		RedisName          *string
		BeginTime, EndTime *string
		TaskTypes          []string
		TaskStatus         *int64
	}
	parametersInfo struct {
		TaskID *int64 `json:"TaskId"`
	}
)

var errNull = errors.New("null")

// refuseNull refuses every null, which Go would read as an absent value.
var refuseNull = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ any) error {
	if d.PeekKind() == 'n' {
		return errNull
	}
	return errors.ErrUnsupported
}))

// parseQuery3 reads the parameters of an action, as strictly as the documents: no
// other fields, no other types, no field twice.
func parseQuery3(api, action string, body []byte, zone *time.Location) (query, render) {
	var p parameters3
	var tce parametersTCE
	var info parametersInfo
	var instances parametersInstances
	var to any = &p
	switch {
	case api == apiTCE:
		to = &tce
	case action == actionInfo:
		to = &info
	case action == actionInstances:
		to = &instances
	}
	switch err := json.Unmarshal(body, to, json.RejectUnknownMembers(true), refuseNull); {
	case errors.Is(err, json.ErrUnknownName):
		return query{}, envelope("UnknownParameter", "the body has a field that is no parameter of "+action)
	case err != nil:
		return query{}, envelope("InvalidParameter", "the body must be one JSON object with fields of the documented types")
	}
	switch action {
	case actionInfo:
		return info.query()
	case actionInstances:
		q, problem := instances.query()
		if problem != "" {
			return query{}, envelope("InvalidParameterValue", problem)
		}
		return q, nil
	}
	if api == apiTCE {
		p = parameters3{
			Limit: tce.Limit, Offset: tce.Offset, InstanceID: tce.RedisID, InstanceName: tce.RedisName,
			BeginTime: tce.BeginTime, EndTime: tce.EndTime, TaskTypes: tce.TaskTypes,
		}
	}
	q, problem := p.query(zone, func(f flow) bool {
		return api == apiTCE && f.name != "" || api == api3 && f.constant != ""
	})
	if status := tce.TaskStatus; status != nil {
		q.statuses = []crsapi.Status{crsapi.Status(*status)}
		if *status < int64(crsapi.StatusError) || *status > int64(crsapi.StatusFailed) {
			problem = "TaskStatus must be a documented status"
		}
	}
	if problem != "" {
		return query{}, envelope("InvalidParameterValue", problem)
	}
	return q, nil
}

func (p *parametersInfo) query() (query, render) {
	switch {
	case p.TaskID == nil:
		return query{}, envelope("MissingParameter", "TaskId is missing")
	case *p.TaskID < 1:
		return query{}, envelope("InvalidParameterValue", "TaskId must be positive")
	}
	return query{taskID: *p.TaskID}, nil
}

// paging returns the limit and the offset of a page, or what is wrong with them.
func paging(limit, offset *int64) (most, skip int, problem string) {
	most = defaultLimit3
	if limit != nil {
		most = int(min(*limit, math.MaxInt32))
	}
	if offset != nil {
		skip = int(min(*offset, math.MaxInt32))
	}
	switch {
	case most < 1:
		problem = "Limit must be positive"
	case skip < 0:
		problem = "Offset must not be negative"
	}
	return most, skip, problem
}

// query returns the query, or what is wrong with a value. A filter can name the
// documented flows.
func (p *parameters3) query(zone *time.Location, documented func(flow) bool) (q query, problem string) {
	q = anyTask()
	check := func(ok bool, what string) {
		if !ok && problem == "" {
			problem = what
		}
	}
	q.limit, q.offset, problem = paging(p.Limit, p.Offset)
	if id := p.InstanceID; id != nil {
		check(*id != "", "the id of an instance must not be empty")
		q.redisID = *id
	}
	if name := p.InstanceName; name != nil {
		check(*name != "", "the name of an instance must not be empty")
		q.redisName = *name
	}
	var ok bool
	if at := p.BeginTime; at != nil {
		q.begin, ok = parseTime(*at, zone)
		check(ok, "BeginTime must be a time as in 2021-12-30 00:00:00")
	}
	if at := p.EndTime; at != nil {
		q.end, ok = parseTime(*at, zone)
		check(ok, "EndTime must be a time as in 2021-12-30 00:00:00")
	}
	check(q.begin <= q.end, "EndTime is before BeginTime")
	for _, text := range p.TaskTypes {
		code := slices.Index(codeTexts[:], text)
		check(code >= 0 && documented(flows[max(code, 0)]), "TaskTypes must hold codes of the documents")
		q.types = append(q.types, code)
	}
	for _, n := range p.Result {
		check(slices.Contains([]int64{0, 1, 2, result3Failed}, n), "Result must hold 0, 1, 2 or 4")
		q.statuses = append(q.statuses, crsapi.Status(n))
		if n == result3Failed {
			q.statuses = append(q.statuses, crsapi.StatusFailed, crsapi.StatusError)
		}
	}
	return q, problem
}
