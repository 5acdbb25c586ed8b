package main

import (
	"reflect"
	"slices"
	"strings"
)

// Upstream goes through maps in Go's order, which is another each time: so are the errors of what is in
// one. A case is run again to see that. Where it cannot be, once is enough: a map that only the
// validation makes.
const (
	reruns = 1
	// siblingReruns are for errors that say the same of several fields: a set of their names may be behind.
	siblingReruns = 16
	// mapReruns are enough: Go starts at one of eight places, so that two neighbours come in the other
	// order once in eight times, and not once in forty with a chance of one in two hundred.
	mapReruns = 40
)

// mapPlaces lists where objects of a type have maps, without indices.
func mapPlaces(t reflect.Type) []string {
	var places []string
	var walk func(t reflect.Type, at string, above []reflect.Type)
	walk = func(t reflect.Type, at string, above []reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			if t.Kind() == reflect.Slice {
				at += "[]"
			}
			t = t.Elem()
		}
		if t.Kind() == reflect.Map {
			places = append(places, at)
		}
		if t.Kind() != reflect.Struct || shapeOf(t) != plain || slices.Contains(above, t) {
			return
		}
		above = append(above, t)
		for _, f := range fieldsOf(t) {
			walk(f.t, strings.TrimPrefix(at+"."+f.name, "."), above)
		}
	}
	walk(t, "", nil)
	return places
}

// withoutIndices is a path of an error with its indices and keys left out.
func withoutIndices(path string) string {
	var b strings.Builder
	inside := false
	for _, c := range path {
		switch {
		case c == '[':
			inside = true
			b.WriteRune(c)
		case c == ']':
			inside = false
			b.WriteRune(c)
		case !inside:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// tries is how often a case with errors is run again.
func tries(maps []string, causes [][3]string) int {
	if len(causes) < 2 {
		return 0
	}
	enough := reruns
	seen, said := map[string]bool{}, map[string]string{}
	for _, c := range causes {
		if field, ok := said[c[2]]; ok && field != c[0] {
			enough = siblingReruns
		}
		said[c[2]] = c[0]
		at := withoutIndices(c[0])
		for _, place := range maps {
			if !strings.HasPrefix(at, place) {
				continue
			}
			if seen[place] {
				return mapReruns
			}
			seen[place] = true
		}
	}
	return enough
}
