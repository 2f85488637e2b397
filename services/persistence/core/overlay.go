package core

import (
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Overlay is a View in which the changes of earlier commands of a batch are
// visible before they are stored: batch boundaries never matter.
type Overlay struct {
	base     View
	heads    map[string]Head
	writes   map[string]*Write // nil is forgotten
	events   map[string]Place
	outcomes map[int64]*eventsv1.Outcome
}

// NewOverlay lies over base and holds no change yet.
func NewOverlay(base View) *Overlay {
	return &Overlay{
		base:     base,
		heads:    make(map[string]Head),
		writes:   make(map[string]*Write),
		events:   make(map[string]Place),
		outcomes: make(map[int64]*eventsv1.Outcome),
	}
}

// Reset drops all changes: they are in base now.
func (o *Overlay) Reset() {
	clear(o.heads)
	clear(o.writes)
	clear(o.events)
	clear(o.outcomes)
}

// Add makes the changes of one command visible.
func (o *Overlay) Add(ch Changes) {
	out := ch.Outcome
	o.outcomes[out.LogOffset] = out
	for _, id := range ch.Forget {
		o.writes[id] = nil
	}
	if ch.Remember {
		o.writes[out.WriteId] = &ch.Write
	}
	if ch.HeadChanged {
		o.heads[out.StreamId] = ch.Head
	}
	for i, e := range ch.Events {
		o.events[e.EventId] = Place{Stream: out.StreamId, Version: out.FirstVersion + int64(i), Offset: out.LogOffset}
	}
}

// Head implements View.
func (o *Overlay) Head(stream string) (Head, bool, error) {
	if h, ok := o.heads[stream]; ok {
		return h, true, nil
	}
	return o.base.Head(stream)
}

// Write implements View.
func (o *Overlay) Write(writeID string) (Write, bool, error) {
	if w, ok := o.writes[writeID]; ok {
		if w == nil {
			return Write{}, false, nil
		}
		return *w, true, nil
	}
	return o.base.Write(writeID)
}

// Event implements View.
func (o *Overlay) Event(eventID string) (Place, bool, error) {
	if p, ok := o.events[eventID]; ok {
		return p, true, nil
	}
	return o.base.Event(eventID)
}

// Outcome implements View.
func (o *Overlay) Outcome(offset int64) (*eventsv1.Outcome, bool, error) {
	if out, ok := o.outcomes[offset]; ok {
		return out, true, nil
	}
	return o.base.Outcome(offset)
}
