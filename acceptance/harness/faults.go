package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/exesdb/exesdb/tools/embedded"
)

// Injected is a fault of the embedded broker.
type Injected struct {
	system *Running
	path   string
}

// Inject makes requests to the embedded broker's process go wrong, until the fault's count is reached or Remove.
func (s *Running) Inject(f embedded.Fault) *Injected {
	s.t.Helper()
	body, err := json.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := s.control(http.MethodPost, "/faults", body)
	if err != nil {
		s.t.Fatalf("inject %+v: %v", f, err)
	}
	return &Injected{s, "/faults/" + id}
}

// Hits is how many requests went wrong so far.
func (i *Injected) Hits() (int, error) {
	text, err := i.system.control(http.MethodGet, i.path, nil)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// Remove ends the fault.
func (i *Injected) Remove() {
	i.system.t.Helper()
	if _, err := i.system.control(http.MethodDelete, i.path, nil); err != nil {
		i.system.t.Fatalf("end the fault: %v", err)
	}
}

// MoveLeaders gives the partitions of the embedded broker's process new leaders, among two nodes.
func (s *Running) MoveLeaders() {
	s.t.Helper()
	if _, err := s.control(http.MethodPost, "/leaders", nil); err != nil {
		s.t.Fatalf("move the leaders: %v", err)
	}
}

// control asks the broker's process.
func (s *Running) control(method, path string, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.brokerControl+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return string(text), err
}
