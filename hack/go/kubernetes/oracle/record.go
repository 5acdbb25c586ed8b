package main

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

var (
	jsonSerializer     = serializerOf(runtime.ContentTypeJSON)
	protobufSerializer = serializerOf(runtime.ContentTypeProtobuf)
)

func serializerOf(mediaType string) runtime.Serializer {
	info, ok := runtime.SerializerInfoForMediaType(legacyscheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		panic("upstream does not speak " + mediaType)
	}
	return info.Serializer
}

// document is a base of others: they are said by what is different.
type document struct {
	Document int `json:"document"`
	Value    any `json:"value"`
}

// edit sets what is at a path; without a value it takes it out.
type edit struct {
	Path  []any `json:"p"`
	Value any   `json:"v,omitempty"`
}

// variant is a document with edits.
type variant struct {
	Document int    `json:"document"`
	Edits    []edit `json:"edits,omitempty"`
}

// record is one case.
type record struct {
	Group       string   `json:"group"`
	Version     string   `json:"version"`
	Resource    string   `json:"resource"`
	Subresource string   `json:"subresource,omitempty"`
	Verb        string   `json:"verb"`
	Seed        string   `json:"seed"`
	Change      string   `json:"change"`
	Object      variant  `json:"object"`
	Old         *variant `json:"old,omitempty"`
	Said        said     `json:"said"`
}

// said is what upstream makes of a case.
type said struct {
	// Stored is what the store would be given, in the storage version.
	Stored   *variant `json:"stored,omitempty"`
	Refused  *refusal `json:"refused,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Shuffled says that upstream does not give its errors in the same order each time.
	Shuffled bool `json:"shuffled,omitempty"`
}

// is says whether two answers are the same, up to an order that is another each time.
func (s said) is(other said) bool {
	if s.Shuffled != other.Shuffled {
		s.Refused, other.Refused = s.Refused.sorted(), other.Refused.sorted()
		s.Shuffled = other.Shuffled
	}
	return reflect.DeepEqual(s, other)
}

// recorder keeps the documents and the cases of one seed.
type recorder struct {
	seed      int
	documents []document
	cases     []*record
}

const documentsPerSeed = 100

// document keeps a value; its number is unique among all seeds.
func (r *recorder) document(value any) int {
	n := r.seed*documentsPerSeed + len(r.documents)
	r.documents = append(r.documents, document{n, value})
	return n
}

// value is a document with its edits.
func (r *recorder) value(v variant) any {
	value := clone(r.documents[v.Document-r.seed*documentsPerSeed].Value)
	for _, e := range v.Edits {
		value = set(value, e.Path, e.Value)
	}
	return value
}

// write writes a line.
func write(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// difference lists what has to be set and taken out to make b of a.
func difference(a, b any) []edit {
	var edits []edit
	differ(nil, a, b, &edits)
	return edits
}

func differ(at []any, a, b any, edits *[]edit) {
	here := func(more any) []any { return append(append(make([]any, 0, len(at)+1), at...), more) }
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		for _, k := range sortedKeys(a) {
			if _, kept := b[k]; !kept {
				*edits = append(*edits, edit{Path: here(k)})
			}
		}
		for _, k := range sortedKeys(b) {
			if was, known := a[k]; known {
				differ(here(k), was, b[k], edits)
			} else {
				*edits = append(*edits, edit{Path: here(k), Value: b[k]})
			}
		}
		return
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i := range a {
			differ(here(i), a[i], b[i], edits)
		}
		return
	}
	if !reflect.DeepEqual(a, b) {
		*edits = append(*edits, edit{Path: at, Value: b})
	}
}

// tree is an object in a version as JSON has it.
func tree(object runtime.Object, gv schema.GroupVersion) (any, error) {
	body, err := runtime.Encode(legacyscheme.Codecs.EncoderForVersion(jsonSerializer, gv), object)
	if err != nil {
		return nil, err
	}
	v, err := parse(body)
	if err != nil {
		return nil, err
	}
	return stopped(v), nil
}

func parse(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// stopped puts the time that ours is given in the place of the time at which this program runs.
func stopped(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			v[k] = stopped(below)
		}
	case []any:
		for i, below := range v {
			v[i] = stopped(below)
		}
	case string:
		if len(v) < len(now) || v[len(v)-1] != 'Z' {
			return v
		}
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil && time.Since(at).Abs() < time.Hour {
			return now
		}
	}
	return v
}
