package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// conditional lists the defaults that the probe takes for constants although upstream's functions set
// them only in some objects: an object that is empty but for one path meets their conditions. They are
// rules of the API server's strategies. Every entry was checked against upstream's defaults.go; an entry
// that the probe no longer finds is an error.
var conditional = map[string]string{}

// fact counts in how many places of how many kinds a field got a value.
type fact struct {
	places int
	values map[string]int
}

// prober instantiates every message at every path of every kind, lets the scheme set defaults and
// reads what the message's own fields became.
type prober struct {
	c      *catalogue
	places map[string]int              // message -> places
	facts  map[string]map[string]*fact // message -> JSON name -> fact
	root   reflect.Type
}

// readDefaults fills in the defaults that a field has wherever its message stands.
func (c *catalogue) readDefaults() error {
	p := &prober{c: c, places: map[string]int{}, facts: map[string]map[string]*fact{}}
	for _, t := range scheme.AllKnownTypes() {
		m := c.messages[shortName(t)]
		if m == nil || m.typ != t || strings.HasSuffix(m.name, "List") || strings.HasPrefix(m.name, "meta/v1.") {
			continue
		}
		p.root = t
		p.visit(t, nil, nil)
	}
	unused := map[string]bool{}
	for name := range conditional {
		unused[name] = true
	}
	for name, fields := range p.facts {
		for _, f := range c.messages[name].fields {
			fact := fields[f.json]
			if f.embedded || fact == nil || len(fact.values) != 1 || fact.places != p.places[name] {
				continue
			}
			id := name + "." + f.json
			if _, deny := conditional[id]; deny {
				delete(unused, id)
				continue
			}
			for value := range fact.values {
				f.fallback = value
			}
		}
	}
	for id := range unused {
		return fmt.Errorf("%s is listed as conditional, but no such default was seen", id)
	}
	return nil
}

// visit probes the message t at path, then the messages below it. A path is a list of field indexes;
// lists on it have one element, maps end it.
func (p *prober) visit(t reflect.Type, path []int, above []reflect.Type) {
	m := p.c.messages[shortName(t)]
	if m == nil || m.typ != t || slices.Contains(above, t) || m.name == "meta/v1.ObjectMeta" || m.name == "meta/v1.TypeMeta" {
		return
	}
	root := reflect.New(p.root)
	if !follow(root.Elem(), path).IsValid() {
		return
	}
	setDefaults(root.Interface().(runtime.Object))
	p.record(m, follow(root.Elem(), path))
	above = append(slices.Clone(above), t)
	for i := range t.NumField() {
		ft := t.Field(i).Type
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			p.visit(ft, append(slices.Clone(path), i), above)
		}
	}
}

// setDefaults lets the scheme default an object. Some functions of versions that are off by default
// take for granted what validation would have refused, and panic; what they set until then counts.
func setDefaults(o runtime.Object) {
	defer func() { _ = recover() }()
	scheme.Default(o)
}

func (p *prober) record(m *message, v reflect.Value) {
	p.places[m.name]++
	for _, f := range m.fields {
		fv := v.FieldByName(f.goName)
		// Messages held by value are visited themselves.
		if f.embedded || fv.IsZero() || (f.message && f.shape == "" && !f.pointer) {
			continue
		}
		text, err := json.Marshal(fv.Interface())
		if err != nil {
			continue
		}
		fields := p.facts[m.name]
		if fields == nil {
			fields = map[string]*fact{}
			p.facts[m.name] = fields
		}
		if fields[f.json] == nil {
			fields[f.json] = &fact{values: map[string]int{}}
		}
		fields[f.json].places++
		fields[f.json].values[string(text)]++
	}
}

// follow returns the struct at path below v, making what is missing on the way; invalid behind a map.
func follow(v reflect.Value, path []int) reflect.Value {
	for _, i := range path {
		v = v.Field(i)
		for v.Kind() != reflect.Struct {
			switch v.Kind() {
			case reflect.Pointer:
				if v.IsNil() {
					v.Set(reflect.New(v.Type().Elem()))
				}
				v = v.Elem()
			case reflect.Slice:
				if v.Len() == 0 {
					v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				}
				v = v.Index(0)
			default:
				return reflect.Value{}
			}
		}
	}
	return v
}
