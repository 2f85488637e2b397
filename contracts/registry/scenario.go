package registry

// Scenario is one of the five scenarios of the event storming, or, as number
// 0, what the storming lacks.
type Scenario struct {
	Number int
	Title  string
}

// scenarios in the order in which a reader meets them; the titles are the storming's.
var scenarios = []Scenario{
	{1, "System startup and initialization"},
	{2, "Node discovery and cluster formation"},
	{3, "Event stream write and replication"},
	{4, "Node failure and recovery"},
	{5, "Subscription management"},
	{0, "What the storming lacks"},
}

// Scenarios lists the scenarios, those of the storming first.
func Scenarios() []Scenario { return append([]Scenario(nil), scenarios...) }

// Events of the scenario, in causal order.
func (s Scenario) Events() []Event {
	var of []Event
	for _, e := range events {
		if e.Scenario == s.Number {
			of = append(of, e)
		}
	}
	return of
}
