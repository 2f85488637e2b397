package core

// Floor is, per shard, the highest log offset that an acknowledgement or a read
// has shown. Reads ask for at least that, so that they never go back in time.
type Floor struct {
	offsets []int64 // Invariant: an offset never falls; -1 is none
}

// NewFloor is a floor over that many shards.
func NewFloor(shards int32) *Floor {
	f := &Floor{offsets: make([]int64, shards)}
	for i := range f.offsets {
		f.offsets[i] = -1
	}
	return f
}

// Raise lifts the shard's floor to the offset and tells whether it was lower.
func (f *Floor) Raise(shard int32, offset int64) bool {
	if shard < 0 || int(shard) >= len(f.offsets) || offset <= f.offsets[shard] {
		return false
	}
	f.offsets[shard] = offset
	return true
}

// At is the shard's floor; -1 is none.
func (f *Floor) At(shard int32) int64 {
	if shard < 0 || int(shard) >= len(f.offsets) {
		return -1
	}
	return f.offsets[shard]
}
