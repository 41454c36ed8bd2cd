package object

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// NumberSetter is a unit type that a bare number may stand for; others (Bytes,
// Duration) refuse one, for `memory = 512` is a mistake waiting to be made.
type NumberSetter interface{ SetNumber(float64) error }

// Bounds of amounts, far beyond what there is: sums over as many containers and
// pods as there can be, and ends of times, must not overflow.
const (
	maxCPU      = CPU(1e12)
	maxBytes    = Bytes(1 << 50)
	maxDuration = Duration(100 * 365 * 24 * time.Hour)
)

// CPU is processor time in thousandths of a core. Text: "250m", "1.5", or a bare
// number of cores.
type CPU int64

// String is the shortest exact text: "2", "1500m".
func (c CPU) String() string {
	if c%1000 == 0 {
		return strconv.FormatInt(int64(c/1000), 10)
	}
	return strconv.FormatInt(int64(c), 10) + "m"
}

// MarshalText writes String.
func (c CPU) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText writes, and fractions of cores.
func (c *CPU) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if m, ok := strings.CutSuffix(s, "m"); ok {
		n, err := strconv.ParseInt(m, 10, 64)
		if err != nil || n < 0 || CPU(n) > maxCPU {
			return fmt.Errorf("%q is not an amount of cpu; write thousandths of a core (\"250m\") or cores (\"1.5\")", s)
		}
		*c = CPU(n)
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%q is not an amount of cpu; write thousandths of a core (\"250m\") or cores (\"1.5\")", s)
	}
	return c.SetNumber(f)
}

// SetNumber takes a number of cores.
func (c *CPU) SetNumber(f float64) error {
	if !(f >= 0 && f <= float64(maxCPU/1000)) { // NaN is neither
		return fmt.Errorf("%v is not an amount of cpu", f)
	}
	*c = CPU(math.Round(f * 1000))
	return nil
}

// Bytes is an amount of memory or disk. Text: a number with a unit, "64Mi"
// (powers of 1024: Ki Mi Gi Ti) or "64M" (powers of 1000: k M G T), or "512B".
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
	{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"K", 1e3}, {"B", 1},
}

// String is the shortest exact text in powers of 1024, else of bytes.
func (b Bytes) String() string {
	if b == 0 {
		return "0B"
	}
	for _, u := range byteUnits[:4] {
		if int64(b)%u.factor == 0 {
			return strconv.FormatInt(int64(b)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Human is a rounded text for people: "1.1Gi".
func (b Bytes) Human() string {
	for _, u := range byteUnits[:4] {
		if int64(b) >= u.factor {
			s := strconv.FormatFloat(float64(b)/float64(u.factor), 'f', 1, 64)
			return strings.TrimSuffix(s, ".0") + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalText writes String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a number with a unit; the unit may not be left out.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		n, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
		if b := f * float64(u.factor); err != nil || !(b >= 0 && b <= float64(maxBytes)) { // NaN is neither
			break
		}
		*b = Bytes(math.Round(f * float64(u.factor)))
		return nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Errorf("%s has no unit; write for example \"%sMi\" (1 Mi = 1024 × 1024 bytes)", s, s)
	}
	return fmt.Errorf("%q is not an amount of bytes; write for example \"64Mi\" or \"2Gi\"", s)
}

// Duration is a length of time. Text as in Go: "5s", "1m30s", "200ms".
type Duration time.Duration

// D is the duration as Go's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String is Go's text without trailing zero units: "2m", not "2m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's duration text; the unit may not be left out.
func (d *Duration) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	v, err := time.ParseDuration(s)
	if err != nil {
		if _, numErr := strconv.ParseFloat(s, 64); numErr == nil && s != "0" {
			return fmt.Errorf("%s has no unit; write for example \"%ss\" for seconds", s, s)
		}
		return fmt.Errorf("%q is not a duration; write for example \"5s\", \"1m30s\" or \"200ms\"", s)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", s)
	}
	*d = Duration(v)
	return nil
}

// Amount is a number of pods, or a share of them: 2 or "25%".
type Amount struct {
	N       int
	Percent bool
}

// String is "2" or "25%".
func (a Amount) String() string {
	if a.Percent {
		return strconv.Itoa(a.N) + "%"
	}
	return strconv.Itoa(a.N)
}

// Of resolves the amount against a total, rounding a share up or down.
func (a Amount) Of(total int, up bool) int {
	if !a.Percent {
		return a.N
	}
	if up {
		return (total*a.N + 99) / 100
	}
	return total * a.N / 100
}

// MarshalText writes String.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String writes.
func (a *Amount) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	num, pct := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(num)
	if err != nil || n < 0 || (pct && n > 100) {
		return fmt.Errorf("%q is neither a whole number nor a share; write 2 or \"25%%\"", s)
	}
	*a = Amount{N: n, Percent: pct}
	return nil
}

// SetNumber takes a whole number of pods.
func (a *Amount) SetNumber(f float64) error {
	if f < 0 || f != math.Trunc(f) || f > 1e6 {
		return fmt.Errorf("%v is not a whole number of pods", f)
	}
	*a = Amount{N: int(f)}
	return nil
}

// PortRef is a port by number or by the name a container gave it.
type PortRef string

// SetNumber takes a port number.
func (p *PortRef) SetNumber(f float64) error {
	if f != math.Trunc(f) || f < 1 || f > 65535 {
		return fmt.Errorf("%v is not a port; ports are 1 to 65535", f)
	}
	*p = PortRef(strconv.Itoa(int(f)))
	return nil
}

// Number is the port's number if it was given by number.
func (p PortRef) Number() (int, bool) {
	n, err := strconv.Atoi(string(p))
	return n, err == nil
}
