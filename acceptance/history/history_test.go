package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// run is a history of three clients on one stream, as a right store gives it, and its log.
func run() ([]Op, Log) {
	event := func(id string) Event { return Event{ID: id, Type: "T", Data: []byte(`{"id":"` + id + `"}`)} }
	ops := []Op{
		{Client: 0, Stream: "s", Key: "a", Expected: -1, Events: []Event{event("a0"), event("a1")}, Call: 0, Return: 10, First: 0, Version: 1},
		{Client: 1, Stream: "s", Key: "b", Expected: -1, Events: []Event{event("b0")}, Call: 1, Return: 12, Result: Conflict, Version: 1},
		{Client: 2, Stream: "s", Key: "c", Expected: 1, Events: []Event{event("c0")}, Call: 11, Return: 20, First: 2, Version: 2},
		{Client: 0, Kind: Head, Stream: "s", Call: 21, Return: 22, Version: 2},
		{Client: 1, Stream: "s", Key: "d", Expected: -2, Events: []Event{event("d0"), event("d1")}, Call: 23, Result: Unknown},
		{Client: 2, Stream: "s", Key: "e", Expected: -4, Events: []Event{event("e0")}, Call: 30, Return: 40, First: 5, Version: 5},
		{Client: 2, Stream: "s", Key: "f", Expected: 1, Events: []Event{event("f0")}, Call: 41, Result: Unknown},
	}
	var all []Recorded
	for i, id := range []string{"a0", "a1", "c0", "d0", "d1", "e0"} {
		all = append(all, Recorded{Event: event(id), Stream: "s", Version: int64(i), CreatedAtMs: int64(100 + i)})
	}
	return ops, Log{Streams: map[string][]Recorded{"s": all}, All: append([]Recorded(nil), all...)}
}

func TestRightHistoryPasses(t *testing.T) {
	ops, log := run()
	if err := CheckLinearizable(ops, time.Second); err != nil {
		t.Error(err)
	}
	if err := CheckFinal(ops, log); err != nil {
		t.Error(err)
	}
}

func TestUnknownOutcomeMayNotHaveHappened(t *testing.T) {
	ops, log := run()
	ops[5].First, ops[5].Version = 3, 3
	log.Streams["s"] = append(log.Streams["s"][:3:3], log.Streams["s"][5])
	log.Streams["s"][3].Version = 3
	log.All = log.Streams["s"]
	if err := CheckLinearizable(ops, time.Second); err != nil {
		t.Error(err)
	}
	if err := CheckFinal(ops, log); err != nil {
		t.Error(err)
	}
}

func TestLinearizabilityCheckFails(t *testing.T) {
	for name, spoil := range map[string]func(ops []Op){
		"two appends at the same version":            func(ops []Op) { ops[2].First, ops[2].Version = 1, 1 },
		"an append past a version that nobody wrote": func(ops []Op) { ops[2].First, ops[2].Version = 4, 4 },
		"a read that goes back":                      func(ops []Op) { ops[3].Version = 1 },
		"a read of the future":                       func(ops []Op) { ops[3].Version = 5 },
		"a conflict where there was none":            func(ops []Op) { ops[2].Result, ops[2].Version = Conflict, 1 },
		"a conflict with a version it never had":     func(ops []Op) { ops[1].Version = 0 },
		"an exact expectation that did not hold":     func(ops []Op) { ops[2].Expected = 0 },
		"half of a write":                            func(ops []Op) { ops[5].First, ops[5].Version = 4, 4 },
		"an unknown append seen before it was sent":  func(ops []Op) { ops[3].Version = 4 },
		"a write that was acknowledged and is gone":  func(ops []Op) { ops[3].Version = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			ops, _ := run()
			spoil(ops)
			err := CheckLinearizable(ops, time.Second)
			if err == nil {
				t.Fatal("the history passes")
			}
			if !strings.Contains(err.Error(), "not linearizable") {
				t.Fatal(err)
			}
		})
	}
}

func TestFinalCheckFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(ops []Op, log *Log)
		want  string
	}{
		"lost at the end": {func(_ []Op, log *Log) { cut(log, 5, 6) }, "lost"},
		"lost in the middle, closed up": {func(_ []Op, log *Log) {
			cut(log, 2, 3)
			renumber(log)
		}, "lost"},
		"lost in the middle, with a gap": {func(_ []Op, log *Log) { cut(log, 2, 3) }, "has version"},
		"the whole stream lost": {func(_ []Op, log *Log) {
			delete(log.Streams, "s")
			log.All = nil
		}, "lost"},
		"doubled": {func(_ []Op, log *Log) {
			log.Streams["s"] = append(log.Streams["s"], log.Streams["s"][2])
			log.All = append(log.All, log.Streams["s"][2])
			renumber(log)
		}, "twice in the store"},
		"reordered": {func(_ []Op, log *Log) {
			s := log.Streams["s"]
			s[0], s[1] = s[1], s[0]
			log.All[0], log.All[1] = log.All[1], log.All[0]
			renumber(log)
		}, "where a1 is"},
		"torn":             {func(_ []Op, log *Log) { cut(log, 4, 5) }, "torn"},
		"changed bytes":    {func(_ []Op, log *Log) { log.Streams["s"][2].Data = []byte("{}") }, "sent was"},
		"refused, there":   {func(ops []Op, _ *Log) { ops[2].Result = Conflict }, "was refused"},
		"sent by nobody":   {func(ops []Op, _ *Log) { ops[2].Events[0].ID = "x" }, "nobody sent"},
		"time goes back":   {func(_ []Op, log *Log) { log.Streams["s"][3].CreatedAtMs = 1 }, "before the one before it"},
		"missing in all":   {func(_ []Op, log *Log) { log.All = log.All[:5] }, "all streams"},
		"doubled in all":   {func(_ []Op, log *Log) { log.All = append(log.All, log.All[5]) }, "not in its stream"},
		"reordered in all": {func(_ []Op, log *Log) { log.All[0], log.All[1] = log.All[1], log.All[0] }, "in its stream"},
	} {
		t.Run(name, func(t *testing.T) {
			ops, log := run()
			c.spoil(ops, &log)
			err := CheckFinal(ops, log)
			if err == nil {
				t.Fatal("the log passes")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("want %q, got: %v", c.want, err)
			}
		})
	}
}

// cut takes events out of both reads.
func cut(log *Log, from, to int) {
	log.Streams["s"] = append(log.Streams["s"][:from:from], log.Streams["s"][to:]...)
	log.All = append(log.All[:from:from], log.All[to:]...)
}

func renumber(log *Log) {
	for i := range log.Streams["s"] {
		log.Streams["s"][i].Version = int64(i)
	}
	for i := range log.All {
		log.All[i].Version = int64(i)
	}
}

func TestManyConcurrentOperationsAreCheckedQuickly(t *testing.T) {
	var ops []Op
	version, now := int64(-1), int64(0)
	for range 10_000 {
		now += 10
		ops = append(ops, Op{
			Client: len(ops) % 32, Stream: "s", Expected: -2, Events: []Event{{ID: fmt.Sprint(len(ops))}},
			Call: now - 150, Return: now + 150, First: version + 1, Version: version + 1,
		})
		version++
	}
	if err := CheckLinearizable(ops, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}
