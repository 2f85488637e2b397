package position

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawPosition(t *rapid.T) Position {
	return Position{
		Shard:  rapid.Int32Range(0, math.MaxInt32).Draw(t, "shard"),
		Offset: rapid.Int64Range(-1, math.MaxInt64-1).Draw(t, "offset"),
		Index:  rapid.Int32Range(-1, math.MaxInt32).Draw(t, "index"),
	}
}

func TestPositionComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPosition(t)
		token := want.String()
		if url.QueryEscape(token) != token {
			t.Fatalf("token %q is not URL-safe", token)
		}
		got, err := Parse(token)
		if err != nil || got != want {
			t.Fatalf("Parse(%q) = %v, %v; want %v", token, got, err, want)
		}
		cursor, err := ParseCursor(token)
		if err != nil || cursor.At(want.Shard) != want {
			t.Fatalf("ParseCursor(%q) = %v, %v", token, cursor, err)
		}
	})
}

func TestCursorComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := map[int32]Position{}
		var c Cursor
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			p := drawPosition(t)
			if rapid.Bool().Draw(t, "near") {
				p.Shard %= 8
			}
			places[p.Shard] = p
			c = c.With(p)
		}
		got, err := ParseCursor(c.String())
		if err != nil || !slices.Equal(got.Places(), c.Places()) {
			t.Fatalf("ParseCursor(%q) = %v, %v; want %v", c, got.Places(), err, c.Places())
		}
		highest := int32(-1)
		for shard, p := range places {
			highest = max(highest, shard)
			if got.At(shard) != p {
				t.Fatalf("At(%d) = %v, want %v", shard, got.At(shard), p)
			}
		}
		if got.Highest() != highest {
			t.Fatalf("Highest() = %d, want %d", got.Highest(), highest)
		}
	})
}

func TestCursorWithLeavesTheOriginal(t *testing.T) {
	a := NewCursor(Position{0, 5, 0}, Position{0, 4, 0}, Position{2, 1, 1})
	b := a.With(Position{0, 9, 9}).With(Position{1, 1, 1})
	if a.At(0) != (Position{0, 5, 0}) || a.At(1) != (Position{1, -1, -1}) {
		t.Fatalf("the original changed: %v", a.Places())
	}
	if want := []Position{{0, 9, 9}, {1, 1, 1}, {2, 1, 1}}; !slices.Equal(b.Places(), want) {
		t.Fatalf("got %v, want %v", b.Places(), want)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	two := NewCursor(Position{0, 1, 0}, Position{1, 1, 0}).String()
	good := Position{3, 1 << 40, 2}.String()
	for _, c := range []struct{ name, token, want string }{
		{"empty", "", "empty"},
		{"not base64url", "a b", "not base64url"},
		{"version", "Ag" + good[2:], "version 2"},
		{"short", "AQ", "too short"},
		{"damaged", good[:5] + "A" + good[6:], "damaged"},
		{"long", strings.Repeat("A", maxToken+1), "longest"},
		{"several shards", two, "2 shards"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(c.token); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Parse(%q) = %v, want …%s…", c.token, err, c.want)
			}
		})
	}
	for n := 1; n < len(good); n++ {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("Parse took %q, which lacks the last %d bytes", good[:n], len(good)-n)
		}
	}
}

// The token is part of the public contract: clients keep it.
func TestTokenIsGolden(t *testing.T) {
	const token = "AQEAKwG4AQ"
	if got := (Position{0, 42, 0}).String(); got != token {
		t.Fatalf("token of (0, 42, 0) is %q, was %q", got, token)
	}
}

func TestCompare(t *testing.T) {
	order := []Position{{0, -1, -1}, {0, 0, 0}, {0, 0, 1}, End(0, 0), {0, 1, 0}, {1, 0, 0}}
	for i, a := range order {
		for j, b := range order {
			if got := a.Compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%v.Compare(%v) = %d", a, b, got)
			}
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add(Position{0, 42, 0}.String())
	f.Add(NewCursor(Position{0, 1, 0}, Position{1, 1, 0}).String())
	f.Fuzz(func(t *testing.T, token string) {
		c, err := ParseCursor(token)
		if err == nil && c.String() != token {
			t.Fatalf("%q is read as %v, whose token is %q", token, c.Places(), c)
		}
	})
}
