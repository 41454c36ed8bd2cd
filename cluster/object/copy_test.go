package object

import (
	"reflect"
	"testing"
)

// CopySpec and CopyStatus together copy all of an object: there is nothing in it but
// Meta, Spec and Status.
func TestNothingIsLeftToCopy(t *testing.T) {
	for _, info := range Kinds() {
		o := info.New()
		v := reflect.ValueOf(o).Elem()
		for i := range v.NumField() {
			f := v.Field(i).Addr().Interface()
			if f != any(o.Head()) && f != o.SpecPtr() && f != o.StatusPtr() {
				t.Errorf("%s has a field %s besides", info.Kind, v.Type().Field(i).Name)
			}
		}
	}
}
