package main

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"sigs.k8s.io/randfill"
)

// rounds is how many random objects each default is tried in, per place.
const rounds = 6

// A default that is written as unconditional must appear wherever the field is unset, whatever else
// the object holds. What fails here belongs into conditional.
func TestADefaultHoldsInRandomObjects(t *testing.T) {
	c, err := readTypes()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.readDefaults(); err != nil {
		t.Fatal(err)
	}
	random := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), legacyscheme.Codecs).NilChance(.4).NumElements(1, 2).MaxDepth(14)
	broken := map[string]bool{}
	tried := 0
	for _, root := range c.defaulted() {
		c.places(root, func(m *message, path []int) {
			for _, f := range m.fields {
				if f.fallback == "" || broken[m.name+"."+f.json] {
					continue
				}
				for range rounds {
					tried++
					if got, ok := defaultIn(random, root, path, f); ok && got != f.fallback {
						t.Errorf("%s.%s: not %s but %s in %v at %v", m.name, f.json, f.fallback, got, root, path)
						broken[m.name+"."+f.json] = true
						break
					}
				}
			}
		})
	}
	t.Logf("%d objects", tried)
	if tried < 10_000 {
		t.Error("hardly anything was tried")
	}
}

// defaultIn unsets a field of the message at path in a random object and returns what it becomes;
// false if defaulting such an object panics.
func defaultIn(random *randfill.Filler, root reflect.Type, path []int, f *field) (text string, ok bool) {
	defer func() { ok = recover() == nil && ok }()
	o := reflect.New(root)
	random.Fill(o.Interface())
	v := follow(o.Elem(), path).FieldByName(f.goName)
	v.SetZero()
	scheme.Default(o.Interface().(runtime.Object))
	v = follow(o.Elem(), path).FieldByName(f.goName)
	b, err := json.Marshal(v.Interface())
	return oneWord(b), err == nil
}
