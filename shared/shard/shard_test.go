package shard

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors are those of Kafka's own UtilsTest.testMurmur2.
func TestMurmur2IsKafkas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestTag(t *testing.T) {
	for id, want := range map[string]string{
		"orders-1":            "orders-1",
		"{user1}.orders":      "user1",
		"a{user1}.orders":     "user1",
		"{}.orders":           "{}.orders",
		"{user1":              "{user1",
		"user1}":              "user1}",
		"}{user1}":            "user1",
		"{{user1}}":           "{user1",
		"{a}{b}":              "a",
		"{}{b}":               "{}{b}",
		"":                    "",
		"{tag with spaces} x": "tag with spaces",
	} {
		if got := Tag(id); got != want {
			t.Errorf("Tag(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestOfStaysInRangeAndFollowsTheTag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		shards := rapid.Int32Range(-1, 1024).Draw(t, "shards")
		got := Of(id, shards)
		if got < 0 || got >= max(shards, 1) {
			t.Fatalf("Of(%q, %d) = %d", id, shards, got)
		}
		if again := Of(id, shards); again != got {
			t.Fatalf("Of(%q, %d) = %d, then %d", id, shards, got, again)
		}
		tag := rapid.StringMatching(`[^{}]+`).Draw(t, "tag")
		before := strings.ReplaceAll(rapid.String().Draw(t, "before"), "{", "")
		after := rapid.String().Draw(t, "after")
		if tagged := Of(before+"{"+tag+"}"+after, shards); tagged != Of(tag, shards) {
			t.Fatalf("the tag %q is in shard %d, but %q in %d", tag, Of(tag, shards), before+"{"+tag+"}"+after, tagged)
		}
	})
}

func TestOfSpreads(t *testing.T) {
	const shards, streams = 8, 8000
	var count [shards]int
	for i := range streams {
		count[Of("stream-"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26%41)+string(rune('0'+i%10)), shards)]++
	}
	for s, n := range count {
		if n < streams/shards/2 {
			t.Errorf("shard %d has %d of %d streams", s, n, streams)
		}
	}
}
