package core

// Expected versions that are not exact; the numbers are the original's.
const (
	ExpectNoStream int64 = -1
	ExpectAny      int64 = -2
	ExpectExists   int64 = -4
)

// accepts tells whether a stream is as a write expects it. A stream that was
// soft-deleted counts as none, and also as being at its last version.
func accepts(expected int64, head Head) bool {
	switch expected {
	case ExpectAny:
		return true
	case ExpectNoStream:
		return head.State != Live
	case ExpectExists:
		return head.State == Live
	default:
		return head.State != None && head.Version == expected
	}
}

// placed tells whether events that are at version first and on are where a
// write with that expectation would have put them. Besides 0, a stream begins
// at the first version after its newest delete.
func placed(expected, first int64, head Head) bool {
	switch expected {
	case ExpectAny, ExpectExists:
		return true
	case ExpectNoStream:
		return first == 0 || (head.State == Live && first == head.FirstVersion)
	default:
		return first == expected+1
	}
}
