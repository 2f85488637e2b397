package position

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The form of a token, in base64url without padding: the version (1), the number
// of places, then for each place the distance of its shard to the one before,
// offset+1 and index+1, all as uvarints; last two bytes of CRC-32C, so that a
// shortened or mistyped token is told from a good one.
const (
	version   = 1
	maxPlaces = 1024
	maxToken  = 32 << 10
	sumBytes  = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(places []Position) string {
	raw := make([]byte, 0, 4+12*len(places))
	raw = append(raw, version)
	raw = binary.AppendUvarint(raw, uint64(len(places)))
	next := int32(0)
	for _, p := range places {
		raw = binary.AppendUvarint(raw, uint64(p.Shard-next))
		raw = binary.AppendUvarint(raw, uint64(p.Offset)+1)
		raw = binary.AppendUvarint(raw, uint64(int64(p.Index)+1))
		next = p.Shard + 1
	}
	raw = binary.BigEndian.AppendUint16(raw, checksum(raw))
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decode(token string) ([]Position, error) {
	if token == "" {
		return nil, errors.New("position is empty: use one that the server gave")
	}
	if len(token) > maxToken {
		return nil, fmt.Errorf("position has %d bytes: the longest has %d", len(token), maxToken)
	}
	bad := func(what string) ([]Position, error) {
		return nil, fmt.Errorf("position %s %s: use one that the server gave, unchanged", shown(token), what)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 1 {
		return bad("is not base64url")
	}
	if raw[0] != version {
		return bad(fmt.Sprintf("has version %d, known is %d", raw[0], version))
	}
	if len(raw) < 2+sumBytes {
		return bad("is too short")
	}
	body, sum := raw[:len(raw)-sumBytes], binary.BigEndian.Uint16(raw[len(raw)-sumBytes:])
	if checksum(body) != sum {
		return bad("is damaged (wrong checksum)")
	}
	r := reader{body[1:]}
	count, ok := r.uvarint(maxPlaces)
	if !ok {
		return bad("has a bad number of shards")
	}
	places := make([]Position, 0, count)
	next := uint64(0)
	for range count {
		gap, ok1 := r.uvarint(math.MaxInt32)
		offset, ok2 := r.uvarint(math.MaxInt64)
		index, ok3 := r.uvarint(math.MaxInt32 + 1)
		if !ok1 || !ok2 || !ok3 || next+gap > math.MaxInt32 {
			return bad("has a place out of range")
		}
		places = append(places, Position{Shard: int32(next + gap), Offset: int64(offset) - 1, Index: int32(int64(index) - 1)})
		next += gap + 1
	}
	if len(r.rest) != 0 {
		return bad("has bytes left over")
	}
	return places, nil
}

// reader takes shortest-form uvarints, so that every cursor has exactly one token.
type reader struct{ rest []byte }

func (r *reader) uvarint(most uint64) (uint64, bool) {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most || n > 1 && r.rest[n-1] == 0 {
		return 0, false
	}
	r.rest = r.rest[n:]
	return v, true
}

func checksum(b []byte) uint16 { return uint16(crc32.Checksum(b, castagnoli)) }

// shown is the token as quoted in an error, shortened.
func shown(token string) string {
	const most = 40
	if len(token) > most {
		return fmt.Sprintf("%q…", token[:most])
	}
	return fmt.Sprintf("%q", token)
}
