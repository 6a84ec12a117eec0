package ledger_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
)

// factRow is a task that a list has. Times are hours after noon.
type factRow struct {
	redisID, taskName string
	start             int64
	status            uint8
	end               int64 // 0 if unknown
}

var statusWords = map[string]uint8{
	"wait": ledger.Pending, "run": ledger.Executing, "ok": ledger.Succeeded,
	"failed": ledger.Failed, "error": ledger.Errored, "odd": ledger.Rare,
}

// rows reads a list such as "a: backup 0 ok, backup 24 failed 24.5; b: clean 1 run": the
// tasks of each instance with submission, status and maybe end. With an inventory, "exists" and
// "isolated" are not tasks, but what that says, with the creation.
func rows(t testing.TB, text string) (all []factRow) {
	for instance := range strings.SplitSeq(text, ";") {
		id, tasks, ok := strings.Cut(instance, ":")
		if !ok {
			continue
		}
		for task := range strings.SplitSeq(tasks, ",") {
			f := strings.Fields(task)
			r := factRow{redisID: strings.TrimSpace(id), taskName: f[0], start: second(t, f[1])}
			if len(f) > 2 {
				r.status = statusWords[f[2]]
			}
			if len(f) > 3 {
				r.end = second(t, f[3])
			}
			all = append(all, r)
		}
	}
	return all
}

// second returns the UNIX second of a number of hours.
func second(t testing.TB, hours string) int64 {
	h, err := strconv.ParseFloat(hours, 64)
	if err != nil {
		t.Fatal(err)
	}
	return noon + int64(h*3600)
}

// listed is what a collector makes of rows, written the slow way.
func listed(all []factRow) []ledger.Listed {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b factRow) int {
		return cmp.Or(strings.Compare(a.redisID, b.redisID), cmp.Compare(a.start, b.start))
	})
	list := []ledger.Listed{}
	for _, r := range all {
		if len(list) == 0 || list[len(list)-1].RedisID != r.redisID {
			list = append(list, ledger.Listed{RedisID: r.redisID})
		}
		l := &list[len(list)-1]
		if r.taskName == "exists" || r.taskName == "isolated" {
			l.Exists, l.Created, l.Isolated = true, r.start, r.taskName == "isolated"
			continue
		}
		l.Oldest, l.Newest = cmp.Or(l.Oldest, r.start), r.start
		l.Gone = r.taskName == "delete" && r.status == ledger.Succeeded
		if (r.taskName == "new" || r.taskName == "start") && r.status == ledger.Succeeded {
			l.Alive = r.start
		}
		if r.taskName == "backup" || r.taskName == "auto" {
			l.Backups = append(l.Backups, ledger.Backup{Start: r.start, Status: r.status})
		}
		i, known := slices.BinarySearchFunc(l.Tasks, r.taskName, func(t ledger.Task, name string) int { return strings.Compare(t.TaskName, name) })
		if !known {
			l.Tasks = slices.Insert(l.Tasks, i, ledger.Task{TaskName: r.taskName})
		}
		switch task := &l.Tasks[i]; r.status {
		case ledger.Pending, ledger.Executing:
			if task.Unfinished == 0 {
				task.Unfinished = r.start
			}
		case ledger.Succeeded:
			task.Succeeded = ledger.Ended{Start: r.start, End: r.end}
		case ledger.Failed, ledger.Errored:
			task.Failed = ledger.Ended{Start: r.start, End: r.end}
		}
	}
	return list
}

// hours is second the other way round, to four digits. It writes 0 as "-".
func hours(second int64) string {
	if second == 0 {
		return "-"
	}
	return strconv.FormatFloat(math.Round(float64(second-noon)/3600*1e4)/1e4, 'f', -1, 64)
}

// described writes the facts as they are exposed:
//
//	seen | instance good deadline failing-since | task finished-before failure success | ...
func described(f *ledger.Facts) string {
	text := hours(f.Seen)
	for i := range f.Instances {
		in := &f.Instances[i]
		owed := func(second int64) string {
			if f.Owed(in) {
				return hours(second)
			}
			return "inf"
		}
		text += fmt.Sprintf(" | %s %s %s %s", in.RedisID, owed(in.Good), owed(in.Deadline), hours(in.FailingSince))
		for j := range in.Tasks {
			t := &in.Tasks[j]
			text += fmt.Sprintf(" | %s %s %s %s", t.TaskName, owed(f.FinishedBefore(t)), hours(t.Failed.End), hours(t.Succeeded.End))
		}
	}
	return text
}

// factStep is a poll. A list of "same" is that of the last poll. Behind the time can be another
// source, or when an inventory was read.
type factStep struct{ at, list, want string }

const theSame = "same"

// play polls the lists, and compares the facts after each step. With restarts, the ledger
// is saved and read again before each poll but the first.
func play(t *testing.T, restarts bool, steps []factStep) {
	l, source := ledger.New(), "2.0 scope"
	var last []ledger.Listed
	var inventory int64
	for i, s := range steps {
		at, change, _ := strings.Cut(s.at, " ")
		if when, ok := strings.CutPrefix(change, "inventory "); ok {
			inventory = second(t, when)
		} else if change != "" {
			source = strings.Replace(change, "/", " ", 1)
		}
		if restarts && i > 0 {
			l = ledger.Reload(t, l)
		}
		now := time.Unix(second(t, at), 0)
		b := ledger.Batch{Source: source, Time: now, Date: now, Inventory: inventory, Watched: inventory != 0}
		if s.list != theSame {
			last = listed(rows(t, s.list))
		}
		if s.list != theSame || len(last) == 0 {
			b.Instances, b.Tasks = last, tasks(nil)
		}
		before := l.Facts(source)
		text := described(before)
		l.Apply(b)
		if got := described(l.Facts(source)); got != s.want {
			t.Errorf("at %s:\n got %s\nwant %s", s.at, got, s.want)
		}
		if described(before) != text {
			t.Errorf("at %s, the facts before it changed from %s to %s", s.at, text, described(before))
		}
	}
}

var factTests = map[string][]factStep{
	"an instance is created, backed up, deleted and restored": {
		{"0", "a: new -1 run", "0 | a -1.0003 24.9997 - | new -1 - -"},
		{"1", "a: new -1 ok", "1 | a -1 25 - | new 1 - 1"},
		{"24", "a: new -1 ok, backup 23 wait", "24 | a -1 26 - | backup 23 - - | new 24 - 1"},
		{"25", "a: new -1 ok, backup 23 ok", "25 | a 23 49 - | backup 25 - 25 | new 25 - 1"},
		{"30", "a: new -1 ok, backup 23 ok, delete 29 ok", "30 | a inf inf - | backup inf - 25 | delete inf - 30 | new inf - 1"},
		{"39", theSame, "39 | a inf inf - | backup inf - 25 | delete inf - 30 | new inf - 1"},
		{"41", "a: delete 29 ok, start 40 run", "41 | a 39 65 - | backup 41 - 25 | delete 41 - 30 | new 41 - 1 | start 40 - -"},
		{"42", "a: delete 29 ok, start 40 ok", "42 | a 40 66 - | backup 42 - 25 | delete 42 - 30 | new 42 - 1 | start 42 - 42"},
	},
	"a backup executes, and fails before the deadline; the next one succeeds": {
		{"1", "a: backup 0 ok", "1 | a 0 26 - | backup 1 - 0"},
		{"21", "a: backup 0 ok, backup 19 run", "21 | a 0 26 - | backup 19 - 0"},
		{"22", "a: backup 0 ok, backup 19 error", "22 | a 0 26 21 | backup 22 22 0"},
		{"23", "a: backup 0 ok, backup 19 error, backup 22.5 failed", "23 | a 0 26 21 | backup 23 23 0"},
		{"24", "a: backup 19 error, backup 22.5 failed", "24 | a 0 26 21 | backup 24 23 0"},
		{"25", "a: backup 19 error, backup 22.5 failed, backup 24 ok", "25 | a 24 50 21 | backup 25 23 25"},
	},
	"after a success, failing-since is not above it": {
		{"1", "a: backup 0 ok", "1 | a 0 26 - | backup 1 - 0"},
		{"11", "a: backup 0 ok, backup 9 run, backup 10 run", "11 | a 0 26 - | backup 9 - 0"},
		{"12", "a: backup 0 ok, backup 9 failed, backup 10 run", "12 | a 0 26 11 | backup 10 12 0"},
		{"13", "a: backup 0 ok, backup 9 failed, backup 10 ok", "13 | a 10 36 10 | backup 13 12 13"},
	},
	"a backup submitted before the failed one ends it not": {
		{"1", "a: backup 0 ok", "1 | a 0 26 - | backup 1 - 0"},
		{"11", "a: backup 0 ok, backup 9 run, backup 10 failed", "11 | a 0 26 10 | backup 9 11 0"},
		{"15", "a: backup 0 ok, backup 9 ok, backup 10 failed", "15 | a 9 35 10 | backup 15 11 15"},
	},
	"a backup begins before the deadline, and is late": {
		{"1", "a: backup 0 ok", "1 | a 0 26 - | backup 1 - 0"},
		{"25.5", "a: backup 0 ok, backup 25 run", "25.5 | a 0 28 - | backup 25 - 0"},
		{"26.5", "a: backup 0 ok, backup 25 run, backup 26.2 run", "26.5 | a 0 28 - | backup 25 - 0"},
		{"27", "a: backup 0 ok, backup 25 failed, backup 26.2 run", "27 | a 0 26 26.5 | backup 26.2 27 0"},
		{"28", "a: backup 0 ok, backup 25 failed, backup 26.2 ok", "28 | a 26.2 52.2 26.2 | backup 28 27 28"},
	},
	"a backup begins at the deadline": {
		{"26", "a: backup 0 ok, backup 26 wait", "26 | a 0 29 - | backup 26 - 0"},
	},
	"a status that is not documented says nothing": {
		{"20", "a: backup 0 ok, backup 19 odd", "20 | a 0 26 - | backup 20 - 0"},
		{"21", "a: backup 0 ok, backup 19 failed", "21 | a 0 26 20 | backup 21 21 0"},
	},
	"ends are not known": {
		{"1", "a: clean 0 ok", "1 | a -0.0003 25.9997 - | clean 1 - 0"},
		{"30", "a: clean 0 ok, clean 20 failed", "30 | a -0.0003 25.9997 - | clean 30 30 0"},                  // while nobody polled
		{"31", "a: clean 0 ok, clean 20 failed, clean 21 failed", "31 | a -0.0003 25.9997 - | clean 31 30 0"}, // history
		{"32", "a: clean 21 failed, clean 30.5 failed", "32 | a -0.0003 25.9997 - | clean 32 32 0"},
	},
	"an import fails after a day": {
		{"1", "a: import 0 run", "1 | a -0.0003 25.9997 - | import 0 - -"},
		{"30", theSame, "30 | a -0.0003 25.9997 - | import 0 - -"},
		{"31", "a: import 0 failed", "31 | a -0.0003 25.9997 - | import 31 31 -"},
	},
	"a failure and a success of one second": {
		{"1", "a: clean 0 ok", "1 | a -0.0003 25.9997 - | clean 1 - 0"},
		{"2", "a: clean 0 ok, clean 1.5 ok, clean 1.6 failed", "2 | a -0.0003 25.9997 - | clean 2 2.0003 2"},
		{"4", "a: clean 3.5 failed, clean 3.5 ok", "4 | a -0.0003 25.9997 - | clean 4 4 4"},
	},
	"a backup that fails and one that succeeds have one second": {
		{"1", "a: backup 0 ok, backup 1 failed, backup 1 ok", "1 | a 1 27 - | backup 1 1 1"},
	},
	"another API has other names and a longer list": {
		{"10", "a: backup 0 failed", "10 | a -0.0003 25.9997 0 | backup 10 0 -"},
		{"20", "a: backup 0 failed, backup 19 failed", "20 | a -0.0003 25.9997 0 | backup 20 20 -"},
		{
			"21 3.0/scope", "a: new -9 ok -9, auto 0 failed 0.1, auto 19 failed 19.1, backup 20 run",
			"21 | a -0.0003 25.9997 0 | auto 21 19.1 - | backup 20 20 - | new 21 - -9",
		},
		{"22 2.0/scope", "a: backup 0 failed, backup 19 failed, backup 20 ok", "22 | a 20 46 0 | auto 22 19.1 - | backup 22 20 22 | new 22 - -9"},
	},
	"another scope": {
		{"10", "a: backup 0 ok; b: backup 0 ok", "10 | a 0 26 - | backup 10 - 0 | b 0 26 - | backup 10 - 0"},
		{"11 2.0/other", "a: backup 1 failed, backup 2 failed", "11 | a 0.9997 26.9997 1 | backup 11 2 -"},
		{"12 2.0/another", "", "12"},
	},
	"an empty list": {
		{"1", "a: backup 0 ok; b: delete 0 ok", "1 | a 0 26 - | backup 1 - 0 | b inf inf - | delete inf - 0"},
		{"2", "", "1 | a 0 26 - | backup 1 - 0 | b inf inf - | delete inf - 0"},
		{"4", "a: backup 0 ok, delete 3.5 ok", "4 | a inf inf - | backup inf - 0 | delete inf - 4 | b inf inf - | delete inf - 0"},
		{"5", "", "5 | a inf inf - | backup inf - 0 | delete inf - 4 | b inf inf - | delete inf - 0"},
	},
	"an empty list, after the last instance in use has left": {
		{"1", "a: backup 0 ok; b: delete 0 ok", "1 | a 0 26 - | backup 1 - 0 | b inf inf - | delete inf - 0"},
		{"2", "b: delete 0 ok", "2 | a inf inf - | backup inf - 0 | b inf inf - | delete inf - 0"},
		{"3", "", "3 | a inf inf - | backup inf - 0 | b inf inf - | delete inf - 0"},
	},
	"an instance leaves while it fails": {
		{"9", "a: backup 0 ok, backup 8 failed, clean 1 run; b: delete 0 ok", "9 | a 0 26 8 | backup 9 8 0 | clean 1 - - | b inf inf - | delete inf - 0"},
		{"10", "b: delete 0 ok", "10 | a 0 26 8 | backup 10 8 0 | clean 10 - - | b inf inf - | delete inf - 0"},
		{"178", theSame, "178 | a 0 26 8 | backup 178 8 0 | clean 178 - - | b inf inf - | delete inf - 0"},
		{"178.01", theSame, "178.01 | a inf inf 8 | backup inf 8 0 | clean inf - - | b inf inf - | delete inf - 0"},
		{"730", "b: delete 0 ok", "730 | a inf inf 8 | backup inf 8 0 | clean inf - - | b inf inf - | delete inf - 0"},
		{"730.01", "b: delete 0 ok, delete 1 ok", "730.01 | b inf inf - | delete inf - 1"},
	},
	"instances leave overdue, and as a backup runs": {
		{"27", "a: backup 0 ok; b: backup 0 ok, backup 25 run", "27 | a 0 26 - | backup 27 - 0 | b 0 28 - | backup 25 - 0"},
		{"28", "c: delete 0 ok", "28 | a 0 26 - | backup 28 - 0 | b inf inf - | backup inf - 0 | c inf inf - | delete inf - 0"},
	},
	"an instance leaves while nobody polls": {
		{"20", "a: backup 0 ok", "20 | a 0 26 - | backup 20 - 0"},
		{"100", "b: delete 99 ok", "100 | a inf inf - | backup inf - 0 | b inf inf - | delete inf - 100"},
	},
	"every week, of which two are listed": {
		{"1", "a: backup 0 ok", "1 | a 0 26 - | backup 1 - 0"},
		{"169", "a: backup 0 ok, backup 168 ok", "169 | a 168 194 - | backup 169 - 169"},
		{"337", "a: backup 168 ok, backup 336 ok", "337 | a 336 362 - | backup 337 - 337"},
		{"505", "a: backup 336 ok, backup 504 ok", "505 | a 504 682.4 - | backup 505 - 505"},
		{"673", "a: backup 504 ok, backup 672 failed", "673 | a 504 682.4 672 | backup 673 673 505"},
		{"841", "a: backup 672 failed, backup 840 ok", "841 | a 840 1018.4 672 | backup 841 673 841"},
	},
	"every week, then every day: five are remembered": {
		{"505", "a: backup 0 ok, backup 168 ok, backup 336 ok, backup 504 ok", "505 | a 504 682.4 - | backup 505 - 504"},
		{"529", "a: backup 528 ok", "529 | a 528 706.4 - | backup 529 - 529"},
		{"553", "a: backup 552 ok", "553 | a 552 730.4 - | backup 553 - 553"},
		{"577", "a: backup 576 ok", "577 | a 576 754.4 - | backup 577 - 577"},
		{"601", "a: backup 600 ok", "601 | a 600 627.2 - | backup 601 - 601"},
	},
	"one interval is an exception": {
		{"200", "a: backup 0 ok, backup 24 ok, backup 48 ok, backup 148 ok, backup 172 ok", "200 | a 172 199.2 - | backup 200 - 172"},
	},
	"by hand: intervals below four hours are not usual": {
		{"4", "a: backup 0 ok, backup 1 ok, backup 2 ok, backup 3 ok", "4 | a 3 29 - | backup 4 - 3"},
		{"20", "a: backup 0 ok, backup 4 ok, backup 8 ok, backup 12 ok", "20 | a 12 18.2 - | backup 20 - 20"},
	},
	"three intervals make one of them usual": {
		{"49", "a: backup 0 ok, backup 12 ok, backup 24 ok", "49 | a 24 50 - | backup 49 - 24"},
		{"50", "a: backup 0 ok, backup 12 ok, backup 24 ok, backup 49 run", "50 | a 24 52 - | backup 49 - 24"},
		{"51", "a: backup 0 ok, backup 12 ok, backup 24 ok, backup 49 ok", "51 | a 49 63.6 - | backup 51 - 51"},
	},
	"inventories": {
		{
			"10 inventory 9", "a: exists -100, backup 0 ok; b: exists -30; c: exists 5; d: backup 8 failed",
			"10 | a 0 26 - | backup 10 - 0 | b -30 -4 - | c 5 31 - | d 7.9997 33.9997 8 | backup 10 8 -",
		},
		{
			"20 inventory 19", "a: isolated -100, backup 0 ok, backup 19 run; b: exists -30; d: backup 8 failed",
			"20 | a inf inf - | backup inf - 0 | b -30 -4 - | c inf inf - | d 7.9997 33.9997 8 | backup 20 8 -",
		},
		{
			"30 inventory 29", "a: exists -100, backup 0 ok; b: exists -30, backup 29.5 ok; c: backup 29.5 failed; d: exists 0, backup 8 failed",
			"30 | a 20 46 - | backup 30 - 0 | b 29.5 55.5 - | backup 30 - 30 | c 20 46 29.5 | backup 30 30 - | d 7.9997 33.9997 8 | backup 30 8 -",
		},
		{"31", "b: exists -30, backup 29.5 ok; d: exists 0, backup 8 failed, delete 30 ok", "31 | a 20 46 - | backup 31 - 0 | b 29.5 55.5 - | backup 31 - 30 | c 20 46 29.5 | backup 31 30 - | d inf inf 8 | backup inf 8 - | delete inf - 31"},
		{"41 inventory 40", "b: exists -30, backup 29.5 ok", "41 | a inf inf - | backup inf - 0 | b 29.5 55.5 - | backup 41 - 30 | c inf inf 29.5 | backup inf 30 - | d inf inf 8 | backup inf 8 - | delete inf - 31"},
	},
	"a clock goes back": {
		{"10", "a: backup 0 ok", "10 | a 0 26 - | backup 10 - 0"},
		{"9.99", theSame, "10 | a 0 26 - | backup 10 - 0"},
		{"9", theSame, "9 | a 0 26 - | backup 9 - 0"},
	},
}

func TestFacts(t *testing.T) {
	for name, steps := range factTests {
		t.Run(name, func(t *testing.T) { play(t, false, steps) })
		t.Run(name+", restarts", func(t *testing.T) { play(t, true, steps) })
	}
}
