package core

// Chain follows the acknowledgements of one shard, each of which names the one
// before it. The zero value has seen none and takes the first as it comes.
type Chain struct {
	started bool
	last    int64 // highest log offset seen
	// The open gap: acknowledgements after gapAfter, up to and with gapLast, were not
	// seen. Invariant: gapAfter < gapLast < last while open.
	open              bool
	gapAfter, gapLast int64
}

// Link says how an acknowledgement stands to those before it.
type Link int

// Links.
const (
	Next     Link = iota // the one after the last
	Repeated             // seen before
	Missed               // some before it were not seen: read them again
	Late                 // one of those that were missed
)

// Observe takes an acknowledgement at a log offset, given the offset of the one
// before it. Whatever the link, the acknowledgement itself is true. A gap stays
// open until its last one has come; a second gap makes it wider, so that what lay
// between is Late when it comes again.
func (c *Chain) Observe(previous, offset int64) Link {
	switch {
	case !c.started:
		c.started, c.last = true, offset
		return Next
	case c.open && offset > c.gapAfter && offset <= c.gapLast:
		c.gapAfter = offset
		c.open = offset < c.gapLast
		return Late
	case offset <= c.last:
		return Repeated
	case previous > c.last:
		if !c.open {
			c.open, c.gapAfter = true, c.last
		}
		c.gapLast, c.last = previous, offset
		return Missed
	default:
		c.last = offset
		return Next
	}
}

// Gap is the open gap: of what lies after the one log offset, up to and with the
// other, something was not seen.
func (c *Chain) Gap() (after, last int64, open bool) { return c.gapAfter, c.gapLast, c.open }
