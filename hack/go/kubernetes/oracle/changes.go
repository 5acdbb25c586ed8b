package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// change is what is done to an object.
type change struct {
	label string
	// place is where, without indices, kind what is done there in general, value what in particular.
	place, kind, value string
	edits              []edit
	// metadata is changed, or what says which object is meant.
	metadata, identity bool
	// pair is made of two others.
	pair bool
}

func (c change) apply(base any) any {
	v := clone(base)
	for _, e := range c.edits {
		v = set(v, e.Path, e.Value)
	}
	return v
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, below := range v {
			m[k] = clone(below)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, below := range v {
			l[i] = clone(below)
		}
		return l
	}
	return v
}

// set returns the tree with a value at a path, or without what is there. Paths that lead nowhere any more
// change nothing.
func set(v any, path []any, value any) any {
	if len(path) == 0 {
		return clone(value)
	}
	switch key := path[0].(type) {
	case string:
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		if len(path) > 1 {
			if below, ok := m[key]; ok {
				m[key] = set(below, path[1:], value)
			}
		} else if value == nil {
			delete(m, key)
		} else {
			m[key] = clone(value)
		}
	case int:
		if l, ok := v.([]any); ok && key < len(l) {
			l[key] = set(l[key], path[1:], value)
		}
	}
	return v
}

// pairsOf combines changes by chance: order and interplay of errors show where there are several.
func pairsOf(changes []change, count int, random *rand.Rand) []change {
	if len(changes) < 2 || count == 0 {
		return nil
	}
	pairs := make([]change, 0, count)
	for range count {
		a, b := changes[random.Intn(len(changes))], changes[random.Intn(len(changes))]
		pairs = append(pairs, change{
			label:    a.label + " & " + b.label,
			edits:    slices.Concat(a.edits, b.edits),
			metadata: a.metadata || b.metadata, identity: a.identity || b.identity, pair: true,
		})
	}
	return pairs
}

// walker goes through an object along its Go type and notes what could be changed.
type walker struct {
	found []change
	// at is the path, under the label of its fields.
	at       []any
	metadata bool
	identity bool
}

// changesOf lists the changes of an object of a type.
func changesOf(object any, t reflect.Type, metadata bool) []change {
	w := &walker{}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	m, _ := object.(map[string]any)
	for _, f := range fieldsOf(t) {
		switch {
		case f.name == "apiVersion" || f.name == "kind":
		case f.name == "metadata" && !metadata:
		case f.name == "metadata":
			w.metadata = true
			w.objectMeta(m, f)
			w.metadata = false
		default:
			w.field(m, f, t)
		}
	}
	return w.found
}

// identities are the fields of metadata that say which object is meant; others a server's handlers
// take away from what clients send, before the strategy sees it.
var (
	identities = []string{"name", "namespace"}
	foreign    = []string{"managedFields", "resourceVersion", "uid", "selfLink"}
)

// reserved is a name that some kinds keep for what servers have without clients.
const reserved = "a.static.k8s.io"

func (w *walker) objectMeta(object map[string]any, meta field) {
	m, _ := object["metadata"].(map[string]any)
	w.at = append(w.at, "metadata")
	for _, f := range fieldsOf(meta.t) {
		if slices.Contains(foreign, f.name) {
			continue
		}
		w.identity = slices.Contains(identities, f.name)
		w.field(m, f, meta.t)
		if f.name == "name" {
			w.put(w.here(f.name), reserved)
		}
	}
	w.identity = false
	w.at = w.at[:len(w.at)-1]
}

func label(path []any) string { return print(path, strconv.Itoa) }

// place is a path without its indices.
func place(path []any) string { return print(path, func(int) string { return "" }) }

func print(path []any, index func(int) string) string {
	var b strings.Builder
	for _, p := range path {
		switch p := p.(type) {
		case int:
			b.WriteString("[" + index(p) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		}
	}
	return b.String()
}

// add notes a change of a kind, with the value that is put.
func (w *walker) add(kind, value string, edits ...edit) {
	path := edits[len(edits)-1].Path
	w.found = append(w.found, change{
		label: strings.TrimSpace(label(path) + " " + kind + " " + value), place: place(path), kind: kind,
		value: value, edits: edits, metadata: w.metadata, identity: w.identity,
	})
}

func (w *walker) here(more ...any) []any { return slices.Concat(w.at, more) }

// shorten keeps labels readable.
func shorten(v any) string {
	b, _ := json.Marshal(v)
	if len(b) > 80 {
		return fmt.Sprintf("%s…(%d)", b[:60], len(b))
	}
	return string(b)
}

func (w *walker) put(path []any, v any) { w.add("=", shorten(v), edit{path, v}) }

// field changes one field of a struct of type of.
func (w *walker) field(m map[string]any, f field, of reflect.Type) {
	v, present := m[f.name]
	path := w.here(f.name)
	if !present {
		for _, sample := range samples(f.t, f.enum) {
			w.put(path, sample)
		}
		w.swap(m, f, of)
		return
	}
	w.add("removed", "", edit{Path: path})
	w.at = append(w.at, f.name)
	w.value(v, f.t, f.enum)
	w.at = w.at[:len(w.at)-1]
}

// swap exchanges a member of what may be a union: the others go, this one comes.
func (w *walker) swap(m map[string]any, f field, of reflect.Type) {
	if !isMember(f.t) {
		return
	}
	var edits []edit
	for _, other := range fieldsOf(of) {
		if _, present := m[other.name]; present && isMember(other.t) {
			edits = append(edits, edit{Path: w.here(other.name)})
		}
	}
	if len(edits) == 0 {
		return
	}
	for _, sample := range samples(f.t, f.enum) {
		w.add("instead =", shorten(sample), append(slices.Clone(edits), edit{w.here(f.name), sample})...)
	}
}

func isMember(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && shapeOf(t.Elem()) == plain
}

// value changes what is at the walker's place.
func (w *walker) value(v any, t reflect.Type, enum []string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if shape := shapeOf(t); shape != plain {
		for _, other := range shape.others(v) {
			w.put(w.here(), other)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if len(m) > 0 {
			w.put(w.here(), map[string]any{})
		}
		for _, f := range fieldsOf(t) {
			w.field(m, f, t)
		}
	case reflect.Slice:
		if l, ok := v.([]any); ok {
			w.list(l, t, enum)
		}
	case reflect.Map:
		if m, ok := v.(map[string]any); ok {
			w.entries(m, t)
		}
	default:
		for _, other := range scalars(v, t, enum) {
			w.put(w.here(), other)
		}
	}
}

// walked is how many elements of a list of structs are changed one by one.
const walked = 40

// sizes are those that lists may have just so, one more than that, and more than most may have.
var sizes = []int{8, 9, 16, 17, 32, 33, 64, 65, 100, 101, 130}

func (w *walker) list(l []any, t reflect.Type, enum []string) {
	element := t.Elem()
	put := func(kind, value string, v []any) { w.add(kind, value, edit{w.here(), v}) }
	put("empty", "", []any{})
	if len(l) > 1 {
		put("without the first", "", l[1:])
		reversed := slices.Clone(l)
		slices.Reverse(reversed)
		put("reversed", "", reversed)
	}
	for _, sample := range samples(element, enum) {
		put("and", shorten(sample), append(slices.Clone(l), sample))
	}
	if len(l) == 0 {
		return
	}
	put("last one twice", "", append(slices.Clone(l), l[len(l)-1]))
	if len(shorten(l[0])) < 60 {
		for _, size := range sizes {
			put("many", strconv.Itoa(size), slices.Repeat(l[:1], size))
		}
	}
	n := min(len(l), walked)
	if element.Kind() == reflect.String {
		n = 1
	}
	for i := range n {
		w.at = append(w.at, i)
		w.value(l[i], element, enum)
		w.at = w.at[:len(w.at)-1]
	}
}

// badKeys are keys that most maps do not take.
var badKeys = []string{"", "-bad", "UPPER", "a b", "example.com/" + strings.Repeat("a", 64), strings.Repeat("a", 254), "../up", "a/b/c", "requests.cpu", "example.com/thing"}

func (w *walker) entries(m map[string]any, t reflect.Type) {
	w.put(w.here(), map[string]any{})
	keys := sortedKeys(m)
	for _, key := range badKeys {
		for _, sample := range samples(t.Elem(), nil)[:1] {
			w.put(w.here(key), sample)
		}
	}
	for i, key := range keys {
		w.add("removed", "", edit{Path: w.here(key)})
		if i > 2 {
			continue
		}
		w.at = append(w.at, key)
		w.value(m[key], t.Elem(), nil)
		w.at = w.at[:len(w.at)-1]
	}
}

// setVersion makes an object one that was stored.
func setVersion(object runtime.Object) {
	if m, err := meta.Accessor(object); err == nil {
		m.SetResourceVersion("1")
	}
}
