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
const rounds = 12

// A default that is written as unconditional must appear wherever the field is unset, whatever else
// the object holds. What fails here belongs into conditional.
func TestADefaultHoldsInRandomObjects(t *testing.T) {
	c, err := readTypes()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.readSchemas(); err != nil {
		t.Fatal(err)
	}
	resources, err := c.readResources()
	if err != nil {
		t.Fatal(err)
	}
	roots := c.rootsOf(resources)
	if err := c.readDefaults(roots); err != nil {
		t.Fatal(err)
	}
	random := &objects{c: c, random: rand.New(rand.NewSource(1))}
	random.filler = fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(2), legacyscheme.Codecs).NilChance(.4).NumElements(1, 2).MaxDepth(14)
	broken := map[string]bool{}
	tried := 0
	for _, root := range roots {
		c.places(root, func(m *message, path []int) {
			for _, f := range m.fields {
				if f.fallback == "" || broken[m.name+"."+f.json] {
					continue
				}
				for range rounds {
					tried++
					if got, ok := random.defaultIn(root, path, f); ok && got != f.fallback {
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

// objects makes random objects.
type objects struct {
	c      *catalogue
	random *rand.Rand
	filler *randfill.Filler
}

// defaultIn unsets a field of the message at path in a random object and returns what it becomes;
// false if defaulting such an object panics.
func (o *objects) defaultIn(root reflect.Type, path []int, f *field) (text string, ok bool) {
	defer func() { ok = recover() == nil && ok }()
	made := reflect.New(root)
	o.filler.Fill(made.Interface())
	for i := range len(path) + 1 {
		o.chooseEnumerations(follow(made.Elem(), path[:i]))
	}
	follow(made.Elem(), path).FieldByName(f.goName).SetZero()
	scheme.Default(made.Interface().(runtime.Object))
	b, err := json.Marshal(follow(made.Elem(), path).FieldByName(f.goName).Interface())
	return oneWord(b), err == nil
}

// chooseEnumerations gives the fields of a message that list their values one of them: conditions
// often look at such fields, and random text never meets them.
func (o *objects) chooseEnumerations(v reflect.Value) {
	for _, f := range o.c.messages[shortName(v.Type())].fields {
		if len(f.enum) == 0 || f.shape != "" {
			continue
		}
		fv := v.FieldByName(f.goName)
		if f.pointer {
			fv.Set(reflect.New(fv.Type().Elem()))
			fv = fv.Elem()
		}
		fv.SetString(f.enum[o.random.Intn(len(f.enum))])
	}
}
