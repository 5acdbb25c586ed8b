package main

import (
	"math"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"

	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// field is one field of a struct, as JSON has it.
type field struct {
	name string
	t    reflect.Type
	enum []string
}

var (
	fieldsLock  sync.Mutex
	fieldsKnown = map[reflect.Type][]field{}
	definitions = openapi.GetOpenAPIDefinitions(func(path string) spec.Ref { return spec.MustCreateRef("#/" + path) })
)

// fieldsOf lists the fields of a struct, those of embedded ones among them.
func fieldsOf(t reflect.Type) []field {
	fieldsLock.Lock()
	defer fieldsLock.Unlock()
	return fieldsLocked(t)
}

func fieldsLocked(t reflect.Type) []field {
	if known, ok := fieldsKnown[t]; ok {
		return known
	}
	definition := definitions[openapiName(t)]
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "" || strings.Contains(options, "inline"):
			below := f.Type
			if below.Kind() == reflect.Pointer {
				below = below.Elem()
			}
			fields = append(fields, fieldsLocked(below)...)
		case name != "":
			fields = append(fields, field{name, f.Type, enumOf(definition, name)})
		}
	}
	fieldsKnown[t] = fields
	return fields
}

// openapiName is the name of the definition of a type.
func openapiName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return ""
}

func enumOf(definition common.OpenAPIDefinition, name string) []string {
	p := definition.Schema.Properties[name]
	values := p.Enum
	if p.Items != nil && p.Items.Schema != nil {
		values = append(values, p.Items.Schema.Enum...)
	}
	var texts []string
	for _, v := range values {
		if s, ok := v.(string); ok {
			texts = append(texts, s)
		}
	}
	slices.Sort(texts)
	return texts
}

// shape tells types that JSON does not show as their Go kind does.
type shape int

const (
	plain shape = iota
	moment
	microMoment
	duration
	quantity
	intOrString
	raw
	data
)

func shapeOf(t reflect.Type) shape {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return moment
	case reflect.TypeFor[metav1.MicroTime]():
		return microMoment
	case reflect.TypeFor[metav1.Duration]():
		return duration
	case reflect.TypeFor[apiresource.Quantity]():
		return quantity
	case reflect.TypeFor[intstr.IntOrString]():
		return intOrString
	case reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[metav1.FieldsV1]():
		return raw
	case reflect.TypeFor[[]byte]():
		return data
	}
	return plain
}

// values are such as the shape takes; most rules are about some of them.
func (s shape) values() []any {
	switch s {
	case moment:
		return []any{"2020-01-02T03:04:05Z", "2200-01-02T03:04:05Z"}
	case microMoment:
		return []any{"2020-01-02T03:04:05.000006Z", "2200-01-02T03:04:05.000006Z"}
	case duration:
		return []any{"1s", "0s", "-1s", "1000h"}
	case quantity:
		return []any{"1", "0", "-1", "1500m", "1m", "10Gi", "7Ei"}
	case intOrString:
		return []any{1, 0, -1, 70000, "50%", "0%", "150%", "-5%", "http", "", "Bad_Name", "100"}
	case raw:
		return []any{map[string]any{}, map[string]any{"kind": "Thing", "apiVersion": "example.com/v1"}}
	case data:
		return []any{"", "AAAA", "bm90IGEgdGhpbmc=", strings.Repeat("QUFB", 1000)}
	}
	return nil
}

func (s shape) others(v any) []any {
	return slices.DeleteFunc(s.values(), func(other any) bool { return shorten(other) == shorten(v) })
}

// samples are values for a field that has none; the first is the simplest that is something.
func samples(t reflect.Type, enum []string) []any {
	if t.Kind() == reflect.Pointer {
		pointed := samples(t.Elem(), enum)
		switch t.Elem().Kind() {
		case reflect.Bool:
			return append(pointed, false)
		case reflect.Int32, reflect.Int64:
			return append(pointed, 0)
		case reflect.String:
			return append(pointed, "")
		}
		return pointed
	}
	if s := shapeOf(t); s != plain {
		return s.values()
	}
	switch t.Kind() {
	case reflect.Bool:
		return []any{true}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return []any{1, -1, 100000}
	case reflect.Float32, reflect.Float64:
		return []any{1.5}
	case reflect.String:
		all := []any{"sample", "Bad_Value!"}
		for _, v := range enum {
			all = append(all, v)
		}
		return all
	case reflect.Struct:
		return []any{map[string]any{}, fill(t, nil, 4)}
	case reflect.Slice:
		all := []any{}
		for _, element := range samples(t.Elem(), enum) {
			all = append(all, []any{element})
		}
		return append(all, []any{})
	case reflect.Map:
		return []any{map[string]any{"key": fill(t.Elem(), nil, 3)}, map[string]any{}}
	}
	return nil
}

// fill makes a value with everything in it, down to a depth: plausible, seldom valid.
func fill(t reflect.Type, enum []string, depth int) any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s := shapeOf(t); s != plain {
		return s.values()[0]
	}
	switch t.Kind() {
	case reflect.Bool:
		return true
	case reflect.String:
		if len(enum) > 0 {
			return enum[0]
		}
		return "filled"
	case reflect.Float32, reflect.Float64:
		return 1.5
	case reflect.Struct:
		m := map[string]any{}
		if depth == 0 {
			return m
		}
		for _, f := range fieldsOf(t) {
			if depth > 1 || f.t.Kind() != reflect.Pointer && f.t.Kind() != reflect.Slice {
				m[f.name] = fill(f.t, f.enum, depth-1)
			}
		}
		return m
	case reflect.Slice:
		return []any{fill(t.Elem(), enum, depth-1)}
	case reflect.Map:
		return map[string]any{"key": fill(t.Elem(), nil, depth-1)}
	}
	return 1
}

// strange are texts that some rule or other does not take.
var strange = []string{
	"", "a", "Bad_Value!", "UPPER", "a b", "é", "-a", "a.b", "a/b", "../a", "/a/b", "a:b", "*.example.com", "10.0.0.1",
	strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 253), strings.Repeat("a", 254),
	strings.Repeat("a", 2000),
}

// scalars are other values for one that is there.
func scalars(v any, t reflect.Type, enum []string) []any {
	var all []any
	switch t.Kind() {
	case reflect.Bool:
		all = []any{true, false}
	case reflect.String:
		text, _ := v.(string)
		for _, s := range slices.Concat(enum, strange, addresses(text)) {
			all = append(all, s)
		}
	case reflect.Int, reflect.Int32:
		all = []any{0, 1, -1, 2, 100, 101, 65535, 65536, math.MaxInt32}
	case reflect.Int64:
		all = []any{0, 1, -1, 2, 100, 101, 65535, 65536, math.MaxInt32, int64(math.MaxInt64)}
	case reflect.Float32, reflect.Float64:
		all = []any{0, -1.5, 1.5, 1e9}
	}
	return slices.DeleteFunc(all, func(other any) bool { return shorten(other) == shorten(v) })
}

// addresses are others of the kind that a text is.
func addresses(text string) []string {
	if net.ParseIP(text) != nil {
		return []string{"2001:db8::1", "10.0.0.2", "10.0.0.300", "010.0.0.1", "::ffff:1.2.3.4", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "FE80::1"}
	}
	if _, _, err := net.ParseCIDR(text); err == nil {
		return []string{"10.0.0.0/33", "10.0.0.5/8", "2001:db8::/64", "010.0.0.0/8", "10.0.0.0/08", "2001:DB8::/64", "::ffff:1.2.3.0/120"}
	}
	return nil
}
