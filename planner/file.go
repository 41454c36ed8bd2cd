package planner

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// A saved plan is a zip archive of two entries: the marker, which says what it
// is and in which format, and the plan as JSON. The marker comes first, so that
// a file of a newer format is recognised before anything else is read.
const (
	markerName = "berth-plan"
	planName   = "plan.json"
	maxPlan    = 256 << 20 // bytes of JSON; no real plan comes near, a zip bomb does
)

// WritePlan saves a plan. The bytes depend on the plan alone. Sensitive values
// are in it by keyed digest only; an explanation is for who asked and stays out.
func WritePlan(w io.Writer, p *object.Plan) error {
	saved := *p
	saved.Explanation = nil
	body, err := json.Marshal(&saved)
	if err != nil {
		return object.Errorf(object.CodeInternal, object.Ref{}, "the plan cannot be encoded: %w", err)
	}
	z := zip.NewWriter(w)
	for _, e := range []struct {
		name string
		body []byte
	}{{markerName, []byte(p.Format + "\n")}, {planName, body}} {
		f, err := z.Create(e.name)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.body); err != nil {
			return err
		}
	}
	return z.Close()
}

// ReadPlan reads what WritePlan wrote. It answers CodeInvalid for files that are
// damaged, no plan at all, or of a format that this version does not read; name
// is the file's name, for the message. The seal is checked by the masters.
func ReadPlan(name string, data []byte) (*object.Plan, error) {
	bad := func(hint, format string, args ...any) error {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "%s "+format, append([]any{name}, args...)...)
		e.Hint = hint
		return e
	}
	const again = "Plan again with berth plan --out FILE."
	if len(data) == 0 {
		return nil, bad(again, "is empty")
	}
	if !bytes.HasPrefix(data, []byte("PK\x03\x04")) {
		return nil, bad("To apply a directory, name it with -C; to apply a saved plan, give the file that berth plan --out wrote.", "is not a saved plan")
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, bad(again, "is damaged: %w", err)
	}
	if len(z.File) == 0 || z.File[0].Name != markerName {
		if slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == markerName }) {
			return nil, bad(again, "has been packed anew, so it is not the plan that the masters sealed")
		}
		return nil, bad("A file that terraform or another tool saved cannot be applied here.", "is an archive, but not a plan of berth")
	}
	marker, err := entry(z.File[0])
	if err != nil {
		return nil, bad(again, "is damaged: %w", err)
	}
	format := strings.TrimSpace(string(marker))
	if !readable(format) {
		return nil, bad("Apply it with the version of berth that made it, or plan again with this one.", "has plan format %s; this version reads %s", strconv.Quote(format), object.PlanFormat)
	}
	for _, f := range z.File[1:] {
		if f.Name != planName {
			continue
		}
		body, err := entry(f)
		if err != nil {
			return nil, bad(again, "is damaged: %w", err)
		}
		var p object.Plan
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p); err != nil {
			return nil, bad(again, "is damaged: %w", err)
		}
		if p.Format != format || len(p.Stacks()) == 0 && p.Operation == nil && p.Restore == nil {
			return nil, bad(again, "is damaged: its parts do not belong together")
		}
		return &p, nil
	}
	return nil, bad(again, "is damaged: it has no %s", planName)
}

// readable reports whether a format has our major version and no later minor.
func readable(format string) bool {
	var major, minor, ourMajor, ourMinor int
	if n, err := fmt.Sscanf(format, "%d.%d", &major, &minor); n != 2 || err != nil {
		return false
	}
	if n, err := fmt.Sscanf(object.PlanFormat, "%d.%d", &ourMajor, &ourMinor); n != 2 || err != nil {
		return false
	}
	return major == ourMajor && minor <= ourMinor
}

func entry(f *zip.File) ([]byte, error) {
	if f.UncompressedSize64 > maxPlan {
		return nil, errors.New("larger than any plan")
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxPlan)) // a wrong checksum is an error of the last read
}
