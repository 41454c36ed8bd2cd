package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berthdev/berth/cluster/object"
)

var errorResponse = &huma.Response{
	Description: "An error. The code tells programs what to do, message and hint tell people.",
	Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/Failure"}}},
}

func answers(schema *huma.Schema) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
}

func schemaName(k object.Kind) string { return reflect.TypeOf(mustNew(k)).Elem().Name() }

// mustNew is for the kinds of object.Kinds, which exist.
func mustNew(k object.Kind) object.Object {
	info, _ := object.Info(k)
	return info.New()
}

// describeObjects adds a schema for each kind, made from the same tags as the
// language.
func describeObjects(r huma.Registry) {
	b := schemaBuilder{r}
	for _, k := range object.Kinds() {
		o := k.New()
		s := b.object(reflect.TypeOf(o).Elem())
		s.Description = k.Doc
		r.Map()[schemaName(k.Kind)] = s
	}
}

// registry describes every struct by schemaBuilder, and leaves to huma what is
// its own: parameters.
type registry struct{ huma.Registry }

// MarshalJSON writes the components.
func (r registry) MarshalJSON() ([]byte, error) { return json.Marshal(r.Map()) }

// Schema is huma's way to ask for the schema of a type.
func (r registry) Schema(t reflect.Type, allowRef bool, hint string) *huma.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct && !t.Implements(reflect.TypeFor[huma.SchemaProvider]()) {
		return schemaBuilder(r).of(t)
	}
	return r.Registry.Schema(t, allowRef, hint)
}

type schemaBuilder struct{ huma.Registry }

// of is the schema of a type; structs stand among the components.
func (b schemaBuilder) of(t reflect.Type) *huma.Schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	p := reflect.PointerTo(t)
	switch {
	case t == anyType:
		s := &huma.Schema{Description: "An object; meta.kind tells which."}
		for _, k := range object.Kinds() {
			s.OneOf = append(s.OneOf, &huma.Schema{Ref: "#/components/schemas/" + schemaName(k.Kind)})
		}
		return s
	case t == sensitiveType:
		return &huma.Schema{Description: "A value that is never shown: text when written, its keyed digest when read.", AnyOf: []*huma.Schema{
			{Type: "string"}, {Type: "object", Properties: map[string]*huma.Schema{"digest": {Type: "string"}}},
		}}
	case t.PkgPath() == "time" && t.Name() == "Time":
		return &huma.Schema{Type: "string", Format: "date-time"}
	case p.Implements(textDecoder) || p.Implements(numberSetter):
		s := &huma.Schema{Type: "string"}
		if p.Implements(numberSetter) {
			s = &huma.Schema{AnyOf: []*huma.Schema{{Type: "string"}, {Type: "number"}}}
		}
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
		if _, ok := b.Map()[name]; !ok {
			b.Map()[name] = &huma.Schema{} // a type may contain itself
			b.Map()[name] = b.object(t)
		}
		return &huma.Schema{Ref: "#/components/schemas/" + name}
	case reflect.Slice:
		return &huma.Schema{Type: "array", Items: b.of(t.Elem())}
	case reflect.Map:
		return &huma.Schema{Type: "object", AdditionalProperties: b.of(t.Elem())}
	case reflect.Bool:
		return &huma.Schema{Type: "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return &huma.Schema{Type: "integer", Format: "int64"}
	case reflect.String:
		return &huma.Schema{Type: "string"}
	}
	return &huma.Schema{}
}

func (b schemaBuilder) object(t reflect.Type) *huma.Schema {
	s := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, f := range object.Fields(t) {
		x := b.of(f.Type)
		if x.Ref == "" {
			x.Description = f.Doc
		}
		for _, e := range f.Enum {
			x.Enum = append(x.Enum, e)
		}
		if f.Default != "" {
			x.Default = f.Default
			if n, err := strconv.Atoi(f.Default); err == nil && x.Type == "integer" {
				x.Default = n
			}
		}
		if f.Required || f.Label {
			s.Required = append(s.Required, f.JSON)
		}
		s.Properties[f.JSON] = x
	}
	return s
}

func (s *Server) getOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "application/json") // browsers show it
	}
	_, _ = w.Write(s.openapi) // the client may be gone
}
