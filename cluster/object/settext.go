package object

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
)

// setText sets a scalar from the text of a default tag; a tag that does not fit
// its field is a defect, found by TestDefaultsFitTheirFields.
func setText(v reflect.Value, s string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			panic(fmt.Sprintf("object: default %q of a %s: %v", s, v.Type(), err))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int, reflect.Int64:
		n, err := strconv.Atoi(s)
		if err != nil {
			panic(fmt.Sprintf("object: default %q of a %s: %v", s, v.Type(), err))
		}
		v.SetInt(int64(n))
	case reflect.Bool:
		v.SetBool(s == "true")
	default:
		panic(fmt.Sprintf("object: a %s cannot have a default", v.Type()))
	}
}
