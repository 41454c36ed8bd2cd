package object

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// CopyPath makes to have what from has at a path as the diff writes it
// (replicas, labels, pod.container["web"].env["A"]): what ignore_changes asks
// for. Nothing that to shares with other objects is written into. A path that
// leads nowhere in from is removed from to where that is possible, and is an
// error where no configuration could have such a path.
func CopyPath(to, from Object, path string) error {
	steps, err := parsePath(path)
	if err != nil {
		return err
	}
	var t, s reflect.Value
	switch steps[0].name {
	case "labels":
		t, s = reflect.ValueOf(&to.Head().Labels).Elem(), reflect.ValueOf(&from.Head().Labels).Elem()
		steps = steps[1:]
	case "annotations":
		t, s = reflect.ValueOf(&to.Head().Annotations).Elem(), reflect.ValueOf(&from.Head().Annotations).Elem()
		steps = steps[1:]
	default:
		t, s = reflect.ValueOf(to.SpecPtr()).Elem(), reflect.ValueOf(from.SpecPtr()).Elem()
	}
	if !copyPath(t, s, steps) {
		return fmt.Errorf("a %s has no %s; paths are written as the plan shows them, such as pod.container[\"web\"].image", to.Head().Kind, path)
	}
	return nil
}

// pathStep is a name, or a key in brackets.
type pathStep struct {
	name string
	key  bool
}

func parsePath(path string) ([]pathStep, error) {
	var out []pathStep
	for rest := path; rest != ""; {
		if k, ok := strings.CutPrefix(rest, "["); ok {
			key, tail, found := strings.Cut(k, "]")
			if strings.HasPrefix(k, `"`) {
				q, err := strconv.QuotedPrefix(k)
				if err != nil {
					return nil, fmt.Errorf("%s: a key in quotes is not closed", path)
				}
				key, _ = strconv.Unquote(q)
				tail, found = strings.CutPrefix(k[len(q):], "]")
			}
			if !found {
				return nil, fmt.Errorf("%s: a bracket is not closed", path)
			}
			out, rest = append(out, pathStep{key, true}), strings.TrimPrefix(tail, ".")
			continue
		}
		i := strings.IndexAny(rest, ".[")
		if i < 0 {
			i = len(rest)
		}
		out, rest = append(out, pathStep{rest[:i], false}), strings.TrimPrefix(rest[i:], ".")
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("an empty path")
	}
	return out, nil
}

// copyPath reports whether the path exists in the type.
func copyPath(to, from reflect.Value, steps []pathStep) bool {
	if len(steps) == 0 {
		to.Set(from)
		return true
	}
	switch to.Kind() {
	case reflect.Pointer:
		if from.IsNil() || to.IsNil() {
			to.Set(from)
			return true
		}
		c := reflect.New(to.Type().Elem())
		c.Elem().Set(to.Elem())
		ok := copyPath(c.Elem(), from.Elem(), steps)
		to.Set(c)
		return ok
	case reflect.Struct:
		for _, f := range Fields(to.Type()) {
			if f.Remain && copyPath(to.Field(f.Index), from.Field(f.Index), steps) {
				return true
			}
			if !f.Remain && !f.Internal && f.Name == steps[0].name {
				return copyPath(to.Field(f.Index), from.Field(f.Index), steps[1:])
			}
		}
	case reflect.Map:
		key := reflect.ValueOf(steps[0].name).Convert(to.Type().Key())
		c := reflect.MakeMap(to.Type())
		for it := to.MapRange(); it.Next(); {
			c.SetMapIndex(it.Key(), it.Value())
		}
		v := reflect.Value{} // deletes
		if from.Len() > 0 {
			v = from.MapIndex(key)
		}
		c.SetMapIndex(key, v)
		to.Set(c)
		return true
	case reflect.Slice:
		i, j := find(to, steps[0].name), find(from, steps[0].name)
		if i < 0 || j < 0 {
			return true // there on one side only: nothing to keep
		}
		c := reflect.MakeSlice(to.Type(), to.Len(), to.Len())
		reflect.Copy(c, to)
		ok := copyPath(c.Index(i), from.Index(j), steps[1:])
		to.Set(c)
		return ok
	}
	return false
}

// find is the index of a list's element by label or position, -1 without one.
func find(list reflect.Value, key string) int {
	if label, ok := LabelField(list.Type().Elem()); ok {
		for i := range list.Len() {
			if list.Index(i).Field(label.Index).String() == key {
				return i
			}
		}
		return -1
	}
	if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < list.Len() {
		return i
	}
	return -1
}

// UnionLabels is a over b: b's labels, those of a winning.
func UnionLabels(a, b map[string]string) map[string]string {
	out := maps.Clone(b)
	if out == nil && len(a) > 0 {
		out = map[string]string{}
	}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		out[k] = a[k]
	}
	return out
}
