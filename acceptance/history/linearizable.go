package history

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Expected versions with a meaning of their own.
const (
	noStream     int64 = -1
	anyVersion   int64 = -2
	streamExists int64 = -4
)

// accepts is the model's own reading of the expected version; a stream without events is at -1.
func accepts(expected, version int64) bool {
	switch expected {
	case anyVersion:
		return true
	case noStream:
		return version == -1
	case streamExists:
		return version >= 0
	default:
		return version == expected
	}
}

// step is the model of one stream: its version. An append of unknown outcome takes
// effect if it can. That it never happened is covered too: it may be ordered after
// everything that was seen.
func step(version int64, op *Op) (bool, int64) {
	after := version + int64(len(op.Events))
	switch {
	case op.Kind == Head:
		return op.Version == version, version
	case op.Result == OK:
		return accepts(op.Expected, version) && op.First == version+1 && op.Version == after, after
	case op.Result == Conflict:
		return !accepts(op.Expected, version) && op.Version == version, version
	case accepts(op.Expected, version):
		return true, after
	default:
		return true, version
	}
}

var model = porcupine.Model{
	Init: func() any { return int64(-1) },
	Step: func(state, input, _ any) (bool, any) {
		ok, after := step(state.(int64), input.(*Op)) //nolint:forcetypeassert // porcupine's types are ours
		return ok, after
	},
	DescribeOperation: func(input, _ any) string { return input.(*Op).String() }, //nolint:forcetypeassert // as above
}

// NotLinearizableError says that no order of a stream's operations explains what clients saw.
type NotLinearizableError struct {
	Stream string
	// Longest is the longest order that is possible; Stuck are operations that do not fit after it.
	Longest int
	Ops     int
	Stuck   []string
}

// Error is some lines.
func (e *NotLinearizableError) Error() string {
	return fmt.Sprintf("stream %s is not linearizable: of %d operations, %d can be ordered; then none of these fits:\n  %s",
		e.Stream, e.Ops, e.Longest, strings.Join(e.Stuck, "\n  "))
}

// CheckLinearizable checks each stream's operations against the model. A search
// that takes longer than most is an error too, so that nothing passes unchecked.
func CheckLinearizable(ops []Op, most time.Duration) error {
	streams := map[string][]porcupine.Operation{}
	for i := range ops {
		op := &ops[i]
		ret := op.Return
		if op.Result == Unknown {
			ret = math.MaxInt64
		}
		if ret < op.Call {
			return fmt.Errorf("an operation returned before it was called: %v", op)
		}
		streams[op.Stream] = append(streams[op.Stream], porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: ret})
	}
	for _, stream := range slices.Sorted(maps.Keys(streams)) {
		history := streams[stream]
		if witnessed(history) {
			continue
		}
		result := porcupine.CheckOperationsTimeout(model, history, most)
		if result == porcupine.Ok {
			continue
		}
		if result == porcupine.Unknown {
			return fmt.Errorf("stream %s: %d operations could not be checked within %v", stream, len(history), most)
		}
		return explain(stream, history, most)
	}
	return nil
}

// witnessed tries the one order that the answers suggest: by version, what only saw a version before what replaced
// it. If the model and the clock accept it the history is linearizable, and the search, which grows without bound
// with the operations at once, is not needed. If not, only the search can tell.
func witnessed(history []porcupine.Operation) bool {
	order := slices.Clone(history)
	place := func(o porcupine.Operation) (version int64, replaces int) {
		op := o.Input.(*Op)
		switch {
		case op.Result == Unknown && op.Kind == Append:
			return math.MaxInt64, 0
		case op.Kind == Append && op.Result == OK:
			return op.First - 1, 1
		}
		return op.Version, 0
	}
	slices.SortStableFunc(order, func(a, b porcupine.Operation) int {
		va, ra := place(a)
		vb, rb := place(b)
		return cmp.Or(cmp.Compare(va, vb), cmp.Compare(ra, rb), cmp.Compare(a.Call, b.Call))
	})
	state, now := model.Init(), int64(math.MinInt64)
	for _, o := range order {
		var ok bool
		if ok, state = model.Step(state, o.Input, o.Output); !ok {
			return false
		}
		if now = max(now, o.Call); now > o.Return {
			return false
		}
	}
	return true
}

// explain finds the operations that did not fit.
func explain(stream string, history []porcupine.Operation, most time.Duration) error {
	_, info := porcupine.CheckOperationsVerbose(model, history, most)
	e := &NotLinearizableError{Stream: stream, Ops: len(history)}
	var longest []int
	for _, partial := range info.PartialLinearizations() {
		for _, l := range partial {
			if len(l) > len(longest) {
				longest = l
			}
		}
	}
	e.Longest = len(longest)
	used := map[int]bool{}
	version := int64(-1)
	for _, i := range longest {
		used[i] = true
		_, version = step(version, history[i].Input.(*Op)) //nolint:forcetypeassert // ours
	}
	firstReturn := int64(math.MaxInt64)
	for i, op := range history {
		if !used[i] {
			firstReturn = min(firstReturn, op.Return)
		}
	}
	e.Stuck = append(e.Stuck, fmt.Sprintf("(the stream is then at version %d)", version))
	for i, op := range history {
		if !used[i] && op.Call <= firstReturn && len(e.Stuck) < 40 {
			e.Stuck = append(e.Stuck, op.Input.(*Op).String()) //nolint:forcetypeassert // ours
		}
	}
	return e
}
