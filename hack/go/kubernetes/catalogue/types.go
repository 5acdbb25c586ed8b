package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/install"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane" // installs every API group
)

// scheme knows every group of kube-apiserver, those of its two other servers included.
var scheme = legacyscheme.Scheme

// beside holds kinds that the API server speaks without serving them as resources.
var beside = runtime.NewScheme()

func init() {
	apiextensions.Install(scheme)
	apiregistration.Install(scheme)
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, apidiscoveryv2.AddToScheme, auditv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		if err := add(beside); err != nil {
			panic(err)
		}
	}
}

// catalogue is what all parts of the program fill and read.
type catalogue struct {
	messages map[string]*message
	kinds    []kind
}

type message struct {
	name    string // core/v1.PodSpec
	openapi string
	atomic  bool
	fields  []*field
	typ     reflect.Type
}

type field struct {
	goName   string
	json     string
	embedded bool
	tag      int    // of protobuf, 0 for none
	shape    string // "", "[]" or "map[string]"
	kind     string // a scalar, a special, or the name of a message
	message  bool

	pointer, elementPointer       bool
	omitEmpty, omitZero, required bool
	mapAtomic                     bool
	listType                      string
	listKeys                      []string
	patch, patchKey               string
	fallback                      string // JSON of the unconditional default
	enum                          []string
	goType                        string // where it has names that the kind does not tell
}

type kind struct {
	group, version, name, message string
}

// specials are the types whose JSON is not that of their struct. They are kinds of their own in the
// tables, not messages.
var specials = map[string]string{
	"api/resource.Quantity":                              "quantity",
	"apiextensions/v1.JSON":                              "json",
	"apiextensions/v1.JSONSchemaPropsOrArray":            "schema-or-array",
	"apiextensions/v1.JSONSchemaPropsOrBool":             "schema-or-bool",
	"apiextensions/v1.JSONSchemaPropsOrStringArray":      "schema-or-strings",
	"apiextensions/v1beta1.JSON":                         "json",
	"apiextensions/v1beta1.JSONSchemaPropsOrArray":       "schema-or-array",
	"apiextensions/v1beta1.JSONSchemaPropsOrBool":        "schema-or-bool",
	"apiextensions/v1beta1.JSONSchemaPropsOrStringArray": "schema-or-strings",
	"meta/v1.FieldsV1":                                   "fields",
	"meta/v1.MicroTime":                                  "microtime",
	"meta/v1.Time":                                       "time",
	"runtime.RawExtension":                               "raw",
	"runtime.Unknown":                                    "raw", // inside audit events, which are never protobuf
	"util/intstr.IntOrString":                            "int-or-string",
}

// readTypes walks the Go types of all registered kinds.
func readTypes() (*catalogue, error) {
	c := &catalogue{messages: map[string]*message{}}
	everywhere, err := kindsOfEveryGroup()
	if err != nil {
		return nil, err
	}
	for _, s := range []*runtime.Scheme{scheme, beside} {
		for gvk, t := range s.AllKnownTypes() {
			if gvk.Version == runtime.APIVersionInternal || everywhere[gvk.Kind] == t || isForeign(t) {
				continue
			}
			if err := c.addKind(gvk.Group, gvk.Version, gvk.Kind, t); err != nil {
				return nil, err
			}
		}
	}
	for name, t := range everywhere {
		if err := c.addKind("*", "*", name, t); err != nil {
			return nil, err
		}
	}
	for _, t := range []reflect.Type{reflect.TypeFor[runtime.Unknown](), reflect.TypeFor[runtime.TypeMeta]()} {
		if err := c.walk(t); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.kinds, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.version, b.version), cmp.Compare(a.name, b.name))
	})
	c.kinds = slices.Compact(c.kinds)
	return c, nil
}

// isForeign tells the types that a scheme registers for its own use and that have no wire form.
func isForeign(t reflect.Type) bool {
	return t.PkgPath() == "k8s.io/apimachinery/pkg/apis/meta/internalversion"
}

// kindsOfEveryGroup returns the kinds that metav1.AddToGroupVersion gives to each group version.
func kindsOfEveryGroup() (map[string]reflect.Type, error) {
	probe := runtime.NewScheme()
	gv := schema.GroupVersion{Group: "probe", Version: "v1"}
	metav1.AddToGroupVersion(probe, gv)
	every := map[string]reflect.Type{}
	for name, t := range probe.KnownTypes(gv) {
		every[name] = t
	}
	for _, gv := range scheme.PrioritizedVersionsAllGroups() {
		known := scheme.KnownTypes(gv)
		for name, t := range every {
			if known[name] != nil && known[name] != t {
				return nil, fmt.Errorf("%v %s is %v, elsewhere %v", gv, name, known[name], t)
			}
		}
	}
	return every, nil
}

func (c *catalogue) addKind(group, version, name string, t reflect.Type) error {
	c.kinds = append(c.kinds, kind{group, version, name, shortName(t)})
	return c.walk(t)
}

// shortName is the Go name of a type without the roots that all packages of the API share.
func shortName(t reflect.Type) string {
	p := t.PkgPath()
	for _, root := range []string{
		"k8s.io/api/",
		"k8s.io/apimachinery/pkg/apis/",
		"k8s.io/apimachinery/pkg/",
		"k8s.io/apiextensions-apiserver/pkg/apis/",
		"k8s.io/apiserver/pkg/apis/",
		"k8s.io/kube-aggregator/pkg/apis/",
	} {
		p = strings.TrimPrefix(p, root)
	}
	return p + "." + t.Name()
}

// walk adds t and every message below it.
func (c *catalogue) walk(t reflect.Type) error {
	name := shortName(t)
	if seen := c.messages[name]; seen != nil {
		if seen.typ != t {
			return fmt.Errorf("%v and %v have the same short name %s", t, seen.typ, name)
		}
		return nil
	}
	m := &message{name: name, openapi: openapiName(t), typ: t}
	c.messages[name] = m
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Tag.Get("json") == "-" && sf.Tag.Get("protobuf") == "" {
			continue // only inside a process (TableOptions.NoHeaders)
		}
		if !sf.IsExported() {
			return fmt.Errorf("%s.%s is not exported: a special kind is missing", name, sf.Name)
		}
		f, err := c.readField(sf)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", name, sf.Name, err)
		}
		m.fields = append(m.fields, f)
	}
	return nil
}

// readField takes from the tags what only they know, and everything else from the Go type: the wire
// types in protobuf tags are often wrong.
func (c *catalogue) readField(sf reflect.StructField) (*field, error) {
	f := &field{goName: sf.Name, patch: sf.Tag.Get("patchStrategy"), patchKey: sf.Tag.Get("patchMergeKey")}
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	f.json = name
	omitEmpty := false
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "", "inline":
		case "omitempty":
			omitEmpty = true
		case "omitzero":
			f.omitZero = true
		default:
			return nil, fmt.Errorf("json option %q", o)
		}
	}
	f.embedded = f.json == "" && (sf.Anonymous || strings.Contains(options, "inline"))
	if pb := sf.Tag.Get("protobuf"); pb != "" {
		parts := strings.Split(pb, ",")
		tag, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, err
		}
		f.tag = tag
		if f.json == "-" || (f.json == "" && !f.embedded) { // runtime.Unknown
			f.json = strings.TrimPrefix(parts[3], "name=")
		}
	}
	if !f.embedded && f.json == "" {
		return nil, fmt.Errorf("no JSON name")
	}
	if err := c.readType(f, sf.Type); err != nil {
		return nil, err
	}
	// encoding/json ignores omitempty on structs.
	byValue := f.shape == "" && !f.pointer && sf.Type.Kind() == reflect.Struct
	f.omitEmpty = omitEmpty && !byValue
	if f.embedded && !byValue {
		return nil, fmt.Errorf("embedded by pointer")
	}
	return f, nil
}

// readType splits a Go type into pointer, shape and kind.
func (c *catalogue) readType(f *field, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		f.pointer = true
		t = t.Elem()
	}
	if isNamed(t) {
		f.goType = t.String()
	}
	switch {
	case isStringsMessage(t) || isBytes(t):
	case t.Kind() == reflect.Slice:
		f.shape = "[]"
		t = t.Elem()
	case t.Kind() == reflect.Map:
		if t.Key().Kind() != reflect.String {
			return fmt.Errorf("map with keys of %v", t.Key())
		}
		f.shape = "map[string]"
		t = t.Elem()
	}
	if f.shape != "" && t.Kind() == reflect.Pointer {
		f.elementPointer = true
		t = t.Elem()
	}
	var err error
	f.kind, err = c.elementKind(t)
	f.message = c.messages[f.kind] != nil
	return err
}

// isNamed tells the types that have a name of their own somewhere: named strings, numbers, lists and maps, and lists and maps of
// them. Upstream's decoder names them where a value is of another type.
func isNamed(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		return t.Name() != "" || isNamed(t.Elem())
	case reflect.Map:
		return t.Name() != "" || isNamed(t.Key()) || isNamed(t.Elem())
	case reflect.Struct, reflect.Interface:
		return false
	}
	return t.PkgPath() != ""
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// isStringsMessage tells the lists of strings that protobuf wraps in a message (Verbs, ExtraValue).
func isStringsMessage(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.String || t.Name() == "" {
		return false
	}
	_, wrapped := reflect.PointerTo(t).MethodByName("MarshalToSizedBuffer")
	return wrapped
}

func (c *catalogue) elementKind(t reflect.Type) (string, error) {
	switch {
	case isStringsMessage(t):
		return "strings", nil
	case isBytes(t):
		return "bytes", nil
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64:
		return t.Kind().String(), nil
	case reflect.Interface:
		return "json", nil // the cells of tables
	case reflect.Struct:
		name := shortName(t)
		if special := specials[name]; special != "" {
			// The schema inside is a message all the same.
			return special, c.walkInside(special, t)
		}
		return name, c.walk(t)
	}
	return "", fmt.Errorf("no kind for %v", t)
}

// walkInside adds the schema that the unions of a CRD's schema may hold.
func (c *catalogue) walkInside(special string, t reflect.Type) error {
	if !strings.HasPrefix(special, "schema-") {
		return nil
	}
	schema, ok := t.FieldByName("Schema")
	if !ok {
		return fmt.Errorf("%v has no schema", t)
	}
	return c.walk(schema.Type.Elem())
}
