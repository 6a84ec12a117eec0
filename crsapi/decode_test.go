package crsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// noRetry is a context whose deadline leaves no time for a retry. It does not end.
type noRetry struct{ context.Context }

func (noRetry) Deadline() (time.Time, bool) { return time.Now(), true }

// pageOf returns the Page of a response body.
func pageOf(t testing.TB, api crsapi.API, body string) (*crsapi.Page, error) {
	t.Helper()
	return newClient(t, api, always(body)).Page(noRetry{t.Context()}, crsapi.Query{})
}

// onlyTask returns the task of a list with one row.
func onlyTask(t *testing.T, api crsapi.API, row string) crsapi.Task {
	t.Helper()
	p, err := pageOf(t, api, listJSON(api, 1, row))
	if err != nil || len(p.Tasks) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	return p.Tasks[0]
}

// TestDecodeRows has rows that must not affect each other.
func TestDecodeRows(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		escaped := strings.NewReplacer(`tatus"`, `t\u0061tus"`, `Result"`, `R\u0065sult"`).Replace(rowJSON(api))
		p, err := pageOf(t, api, listJSON(api, 5, rowJSON(api), "null", rowJSON(api, "extra", `{"a":[1,{}]}`), rowJSON(api, "redisId", ""), escaped))
		if err != nil || len(p.Tasks) != 5 {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, invalid := range []int{1, 3} {
			if p.Tasks[invalid].TaskID == 0 {
				t.Errorf("row %d has no hash", invalid)
			}
			p.Tasks[invalid].TaskID = 0
		}
		valid := crsapi.Task{
			RedisID: "crs-izbob1wh", RedisName: "for API test", ProjectID: "0", TaskName: "backupInstance",
			StartTime: time.Date(2017, 2, 10, 8, 56, 18, 0, time.UTC), Status: crsapi.StatusSucceeded, Progress: 1,
		}
		if want := []crsapi.Task{valid, {}, valid, {StartTime: valid.StartTime}, valid}; !slices.Equal(p.Tasks, want) {
			t.Errorf("got  %+v\nwant %+v", p.Tasks, want)
		}
	})
}

// TestDecodeMembers has JSON values of a member by the result, separated by spaces. A
// tilde is a space, and - is no member.
func TestDecodeMembers(t *testing.T) {
	status := func(t crsapi.Task) string { return t.Status.String() }
	long := `"` + strings.Repeat("x", 256+1) + `"`
	for _, test := range []struct {
		apis   []crsapi.API
		member string
		show   func(crsapi.Task) string
		values map[string]string
	}{
		{[]crsapi.API{two, tce}, "status", status, map[string]string{
			"pending": "0", "executing": "1", "succeeded": "2", "failed": "3 3.0", "error": `-1 "-1"`, "unknown": "4 5 -2 17 4294967298 1.5",
		}},
		{[]crsapi.API{three}, "status", status, map[string]string{
			"pending": "0", "executing": "1", "succeeded": "2", "failed": `4 "4" 4.0`, "unknown": `3 "3" -1 5 -2 -4 99 4294967300 1.5`,
		}},
		{allAPIs, "status", status, map[string]string{"invalid": `- null "done" "" true "NaN" {}`}},
		{allAPIs, "redisId", func(t crsapi.Task) string { return t.RedisID }, map[string]string{"invalid": `- "" null ["crs-1"] ` + long}},
		{allAPIs, "startTime", func(t crsapi.Task) string { return t.StartTime.Format(time.DateTime) }, map[string]string{
			"2017-02-10 09:00:00": `"2017-02-10~17:00:00"`,
			"invalid":             `- "" "0000-00-00~00:00:00" "1970-01-01~08:00:00" "2017-02-30~00:00:00" 1486716978`,
		}},
		{allAPIs, "progress", func(t crsapi.Task) string { return fmt.Sprint(t.Progress) }, map[string]string{"0.5": `0.5 "0.5"`, "0": "- null []", "1": "1 1.0"}},
		{allAPIs, "projectId", func(t crsapi.Task) string { return t.ProjectID }, map[string]string{"12": `12 "12" 12.0 "012"`, "": `- null "x"`}},
		{allAPIs, "redisName", func(t crsapi.Task) string { return t.RedisName }, map[string]string{
			"12": `12 "12"`, "": `- null []`, "x" + strings.Repeat("é", 127): `"x` + strings.Repeat("é", 256) + `"`,
		}},
		{bothOf3, "taskId", func(t crsapi.Task) string { return fmt.Sprint(t.TaskID) }, map[string]string{
			"42372": `42372 "42372" 42372.0`, "9007199254740993": "9007199254740993", "9223372036854775807": "9223372036854775807",
			"0": `9223372036854775808 18446744073709551616 -9223372036854775809 1e30 1.5 "x" "" null 0 {} [1] true -`,
		}},
		{[]crsapi.API{three}, "endTime", func(t crsapi.Task) string { return t.EndTime.Format(time.DateTime) }, map[string]string{
			"2017-02-10 09:00:00": `"2017-02-10~17:00:00"`,
			"0001-01-01 00:00:00": `- "0000-00-00~00:00:00" "" null "-" 0 {} [] false "2017-02-30~00:00:00" "0000-00-00" "1970-01-01~08:00:00"`,
		}},
		// A task type has one name, however a server writes it.
		{allAPIs, "taskName", func(t crsapi.Task) string { return t.TaskName }, map[string]string{
			"backupInstance":     `"backupInstance" "task_backupInstance" "FLOW_BACKUPINSTANCE" "BACKUPINSTANCE" "backupinstance" "flow_backupinstance" "012" "12" "0012" 12 "FLOW_012" "\u0030\u00312"`,
			"AUTOBACKUP":         `"AUTOBACKUP" "FLOW_AUTOBACKUP" "autoBackup" "task_autoBackup" "017" 17 "\u00301\u0037"`,
			"newInstance":        `"newInstance" "CREATE" "FLOW_CREATE" "001" 1 "1" "task_newInstance"`,
			"resizeInstance":     `"RESIZE" "task_resizeInstance" "002"`,
			"cleanInstance":      `"CLEAN" "004" "task_cleanInstance"`,
			"closeInstance":      `"CLOSE" "003"`,
			"startInstance":      `"FLOW_STARTUP" "005"`,
			"deleteInstance":     `"DELETE" "006"`,
			"setPassword":        `"SETPWD" "007" "SetPassword"`,
			"importRdb":          `"task_importRdb" "008" "IMPORTRDB"`,
			"restoreBackup":      `"FLOW_RESTOREBACKUP" "010" 10`,
			"UpgradeArch":        `"FLOW_UpgradeArch" "041" "UPGRADEARCH"`,
			"MODIFYBACKUPMOD":    `"070" 70 "FLOW_MODIFYBACKUPMOD"`,
			"015":                `"015"`,
			"000":                `"000"`,
			"FLOW_SOMETHING_NEW": `"FLOW_SOMETHING_NEW"`,
			"backupInstance2":    `"backupInstance2"`,
			"":                   `"" null -`,
			"invalid":            long,
			"a\"中\n":             `"a\"\u4e2d\n"`, "a\ufffdb": "\"a\xffb\"", "a\ufffd": `"a\ud800"`, // escapes and invalid UTF-8
		}},
	} {
		for want, values := range test.values {
			for _, value := range strings.Split(values, " ") {
				if value == "-" {
					value = ""
				}
				for _, api := range test.apis {
					task := onlyTask(t, api, rowJSON(api, test.member, strings.ReplaceAll(value, "~", " ")))
					got := test.show(task)
					if task.RedisID == "" {
						got = "invalid"
					}
					if got != want {
						t.Errorf("API %s: %s %s is %q, want %q", api, test.member, value, got, want)
					}
				}
			}
		}
	}
}

// TestInvalidRowHash: an invalid row has the same TaskID while its task runs.
func TestInvalidRowHash(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		row := func(fields ...string) string {
			return rowJSON(api, append([]string{"startTime", `"0000-00-00 00:00:00"`}, fields...)...)
		}
		for i, rows := range [][]string{
			{row(), row("progress", "0.25"), row("status", "1"), row("progress", ""), row("endTime", `"2017-02-10 17:00:00"`)},
			{row(), row("redisId", `"crs-2"`), row("taskName", `"x"`), row("startTime", `""`), "{}"},
		} {
			ids := map[int64]bool{}
			for _, row := range rows {
				ids[onlyTask(t, api, row).TaskID] = true
			}
			if want := []int{1, 5}[i]; len(ids) != want {
				t.Errorf("%d TaskIDs of %d tasks", len(ids), want)
			}
		}
	})
}

// fill replaces TOTAL, LIST and ROW in a response by the names of an API and a row, and
// OPEN and CLOSE by what is around them.
func fill(api crsapi.API, form string) string {
	d := dialects[api]
	names := []string{"ROW", rowJSON(api), "TOTAL", fmt.Sprintf("%q", d.total), "LIST", fmt.Sprintf("%q", d.tasks)}
	if api == two {
		names = append(names, "OPEN", `"code":0,"data":{`, "CLOSE", "}")
	} else {
		names = append(names, "OPEN", `"Response":{`, "CLOSE", "}")
	}
	return strings.NewReplacer(names...).Replace(form)
}

// TestDecodeList has the forms that a list may take, as far as the documents leave them
// open, and bodies that are no list, and must not be quoted.
func TestDecodeList(t *testing.T) {
	two, three, all := []crsapi.API{two}, bothOf3, allAPIs
	const syntax, other, total, code = "invalid JSON at byte", "not the documented JSON", "the total is not a number", "an error without a code"
	for name, test := range map[string]struct {
		apis       []crsapi.API
		body, want string // the rows and the total, or the error
	}{
		"rows, then the total": {three, `{OPEN LIST:[ROW,ROW],"RequestId":"r",TOTAL:9 CLOSE}`, "2 of 9"},
		"total as text":        {three, `{OPEN TOTAL:"9",LIST:[ROW] CLOSE}`, "1 of 9"},
		"error null":           {three, `{"Response":{"Error":null,TOTAL:1,LIST:[ROW]}}`, "1 of 1"},
		"code 0 beside it":     {three, `{"code":0,"message":"",OPEN TOTAL:1,LIST:[ROW] CLOSE}`, "1 of 1"},
		"unknown members":      {three, `{"a":{"TotalCount":7},OPEN "b":[{"TotalCount":8}],TOTAL:1,LIST:[ROW] CLOSE,"data":{LIST:[ROW]},"TotalCount":9}`, "1 of 1"},

		"total within data":        {all, `{OPEN TOTAL:9,LIST:[ROW] CLOSE}`, "1 of 9"},
		"total at the top":         {two, `{TOTAL:9,OPEN LIST:[ROW] CLOSE}`, "1 of 9"},
		"code as text":             {two, `{"code":"0",TOTAL:1,"data":{LIST:[ROW]}}`, "1 of 1"},
		"data null":                {two, `{"code":0,TOTAL:0,"data":null}`, "0 of 0"},
		"list null":                {all, `{OPEN TOTAL:0,LIST:null CLOSE}`, "0 of 0"},
		"list a string":            {all, `{OPEN TOTAL:0,LIST:"none" CLOSE}`, "0 of 0"},
		"list an object of rows":   {all, `{OPEN TOTAL:2,LIST:{"0":ROW,"2":ROW} CLOSE}`, "2 of 2"},
		"byte order mark":          {all, "\ufeff" + `{OPEN TOTAL:1,LIST:[ROW] CLOSE}`, "1 of 1"},
		"a list of more than page": {all, `{OPEN TOTAL:3,LIST:[` + strings.Repeat("ROW,", 150) + `ROW] CLOSE}`, "151 of 3"},

		"empty":                 {all, ``, syntax},
		"HTML":                  {all, `<html>secret</html>`, syntax + " 0"},
		"two values":            {all, `{OPEN TOTAL:0 CLOSE}{}`, syntax},
		"broken row":            {all, `{OPEN TOTAL:1,LIST:[{"a":] CLOSE}`, syntax},
		"the same member twice": {all, `{OPEN TOTAL:1,TOTAL:2,LIST:[ROW] CLOSE}`, syntax},
		"error a string":        {all, `{"Response":{"Error":"secret",TOTAL:0}}`, other},
		"no total":              {all, `{OPEN LIST:[ROW] CLOSE}`, "no total"},
		"total negative":        {all, `{OPEN TOTAL:-1 CLOSE}`, total},
		"total a word":          {all, `{OPEN TOTAL:"secret" CLOSE}`, total},
		"total too large":       {all, `{OPEN TOTAL:10000001 CLOSE}`, total},
		"error without a code":  {all, `{"code":0,"Response":{"Error":{"Message":"secret"},TOTAL:0}}`, code},
		"error code 0":          {all, `{"Response":{"Error":{"Code":0},TOTAL:0}}`, code},
		"error code empty":      {all, `{"Response":{"Error":{"Code":""},TOTAL:0}}`, code},
		"null":                  {two, `null`, "no code"},
		"code an object":        {two, `{"code":{},TOTAL:0}`, "no code"},
		"success of API 3.0":    {two, `{"Response":{"TotalCount":0,"RequestId":"x"}}`, "no code"},
		"null, 3.0":             {three, `null`, "no Response"},
		"Response empty":        {three, `{"Response":{}}`, "no total"},
	} {
		for _, api := range test.apis {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				p, err := pageOf(t, api, fill(api, test.body))
				if err != nil {
					if wantError(t, err, crsapi.ReasonDecode); !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
						t.Errorf("got %v, want %q and nothing of the body", err, test.want)
					}
					return
				}
				invalid := slices.ContainsFunc(p.Tasks, func(t crsapi.Task) bool { return t.RedisID == "" })
				if got := fmt.Sprintf("%d of %d", len(p.Tasks), p.TotalCount); got != test.want || invalid {
					t.Errorf("got %s, want %s: %+v", got, test.want, p.Tasks)
				}
			})
		}
	}
}

// TestTaskNamesTable compares the table of task names in METRICS.md with what the client
// makes of each code.
func TestTaskNamesTable(t *testing.T) {
	document, err := os.ReadFile("../collector/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for code := range 1000 {
		rows = append(rows, rowJSON(three, "taskName", fmt.Sprintf(`"%03d"`, code)))
	}
	p, err := pageOf(t, three, listJSON(three, len(rows), rows...))
	if err != nil || len(p.Tasks) != len(rows) {
		t.Fatal(err)
	}
	table, names := "<!-- task names: checked by a test -->\n| code | taskName |\n|---|---|\n", map[string]bool{}
	for code, task := range p.Tasks {
		if code := fmt.Sprintf("%03d", code); task.TaskName != code {
			table += fmt.Sprintf("| `%s` | `%s` |\n", code, task.TaskName)
			names[task.TaskName] = true
		}
	}
	if table += "<!-- end of task names -->"; !strings.Contains(string(document), table) {
		t.Errorf("the document does not have\n%s", table)
	}
	if len(names) != 58 {
		t.Errorf("%d names; the documents have 56 types, and 2 of private clouds", len(names))
	}
}

// FuzzDecodeResponse checks that an accepted response is JSON for the standard
// library too, and that its texts are valid in labels and logs.
func FuzzDecodeResponse(f *testing.F) {
	for _, api := range allAPIs {
		f.Add([]byte(listJSON(api, 2, rowJSON(api), rowJSON(api, "startTime", `"0000-00-00 00:00:00"`))))
		f.Add([]byte("\ufeff" + listJSON(api, 1, rowJSON(api, "taskName", "\"a\xff\\ud800\""))))
		f.Add([]byte(fill(api, `{OPEN TOTAL:"2",LIST:{"0" : {"a":1},"1":null,"2":ROW} CLOSE}`)))
	}
	f.Add([]byte(`{"code":"4100","message":"a\u0000","codeDesc":"AuthFailure"}`))
	f.Add([]byte(`{"Response":{"Error":{"Code":"InternalError","Message":"x"},"RequestId":"\u0000"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range allAPIs {
			p, err := pageOf(t, api, string(body))
			var failed *crsapi.Error
			if errors.As(err, &failed) {
				text := failed.Error() + crsapi.Advice(err, api)
				if p != nil || failed.Reason == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\x00") {
					t.Fatalf("%+v with %+v", failed, p)
				}
				continue
			}
			if !json.Valid(bytes.TrimPrefix(body, []byte("\ufeff"))) {
				t.Fatal("accepted a response that is not JSON")
			}
			if p.TotalCount < 0 || p.TotalCount > 10_000_000 {
				t.Fatalf("total %d", p.TotalCount)
			}
			for _, task := range p.Tasks {
				if task.RedisID == "" {
					continue // an invalid row
				}
				if task.StartTime.IsZero() || task.Status.String() == "" || api == three && (task.Status == crsapi.StatusError || task.Status == 4) {
					t.Fatalf("%s: %+v", api, task)
				}
				for _, label := range []string{task.RedisID, task.RedisName, task.TaskName, task.ProjectID} {
					if !utf8.ValidString(label) || len(label) > 256 {
						t.Fatalf("label %q", label)
					}
				}
			}
		}
	})
}
