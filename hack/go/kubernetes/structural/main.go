// Command structural does with schemas and objects of custom resources what upstream's API server does, and
// writes what comes of each step; with -definitions, it does so with definitions of custom resources.
// apiserver/resources/tests/{structural,definitions}.rs hold ours against it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/klog/v2"
)

// table is what is asked, and lists of values for many schemas.
type table struct {
	Lists map[string][]json.RawMessage `json:"lists"`
	Cases []question                   `json:"cases"`
}

// question is a schema, and values for it. Each is a list of the value and of the one that it replaces.
type question struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	// Part is set where the schema is not that of a whole resource.
	Part bool `json:"part"`
	// At is the path of the values; none is the object itself.
	At     string              `json:"at"`
	Values [][]json.RawMessage `json:"values"`
	// List are more values, by the name of their list.
	List string `json:"list"`
	// Spec is set where the values are specs of objects.
	Spec bool `json:"spec"`
	// Spread are values that every property of the schema is given at once.
	Spread []json.RawMessage `json:"spread"`
}

// found are errors. Where upstream walks maps their order is random: then they are sorted here.
type found struct {
	Errors []string `json:"errors"`
	Any    bool     `json:"any,omitempty"`
}

type ofSchema struct {
	Name string `json:"name"`
	// New is why there is no structural schema.
	New       string          `json:"new,omitempty"`
	Structure *found          `json:"structure,omitempty"`
	Defaults  *found          `json:"defaults,omitempty"`
	Pruned    json.RawMessage `json:"pruned,omitempty"`
	// Lists is what validation of a definition says of x-kubernetes-list-type and its like.
	Lists  *found    `json:"lists,omitempty"`
	Values []ofValue `json:"values,omitempty"`
}

// ofValue is what came of one value. An object is left out where it did not change.
type ofValue struct {
	Pruned    json.RawMessage `json:"pruned,omitempty"`
	Unknown   []string        `json:"unknown,omitempty"`
	Coerced   json.RawMessage `json:"coerced,omitempty"`
	Refused   string          `json:"refused,omitempty"`
	Strangers []string        `json:"strangers,omitempty"`
	Dropped   json.RawMessage `json:"dropped,omitempty"`
	// Root is the metadata of the object itself, RootRefused and RootFailed why there is none: of a client, of
	// etcd.
	Root        json.RawMessage `json:"root,omitempty"`
	RootUnknown []string        `json:"rootUnknown,omitempty"`
	RootRefused string          `json:"rootRefused,omitempty"`
	RootFailed  string          `json:"rootFailed,omitempty"`
	Nulls       json.RawMessage `json:"nulls,omitempty"`
	Defaulted   json.RawMessage `json:"defaulted,omitempty"`
	Errors      *found          `json:"errors,omitempty"`
	Update      *found          `json:"update,omitempty"`
	Lists       *found          `json:"lists,omitempty"`
	Metadata    *found          `json:"metadata,omitempty"`
}

func main() {
	path := flag.String("cases", "", "file with schemas and values")
	ofDefinitions := flag.String("definitions", "", "file with definitions, which are asked of instead")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if *ofDefinitions != "" {
		// Upstream logs what it finds twice.
		klog.SetLogger(logr.Discard())
		var asked definitions
		read(*ofDefinitions, &asked)
		if err := errors.Join(asked.check(), asked.ask(encoder.Encode)); err != nil {
			log.Fatal(err)
		}
		return
	}
	var asked table
	read(*path, &asked)
	for _, q := range asked.Cases {
		for _, value := range asked.Lists[q.List] {
			q.Values = append(q.Values, []json.RawMessage{value})
		}
		if err := encoder.Encode(answer(q)); err != nil {
			log.Fatal(err)
		}
	}
}

func read(path string, into any) {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		log.Fatalf("%s: %v", path, err)
	}
}

func answer(q question) (result ofSchema) {
	result.Name = q.Name
	defer func() {
		if why := recover(); why != nil {
			log.Fatalf("%s: panic: %v", q.Name, why)
		}
	}()
	props := decodeSchema(q)
	structural, err := schema.NewStructural(props)
	if err != nil {
		result.New = err.Error()
		return result
	}
	pth := at("schema")
	result.Structure = check(q.Name, func() field.ErrorList { return schema.ValidateStructural(pth, structural.DeepCopy()) })
	result.Defaults = check(q.Name, func() field.ErrorList {
		errs, err := defaulting.ValidateDefaults(context.Background(), pth, structural.DeepCopy(), !q.Part, true)
		if err != nil {
			log.Fatalf("%s: %v", q.Name, err)
		}
		return errs
	})
	pruned := structural.DeepCopy()
	if err := defaulting.PruneDefaults(pruned); err != nil {
		result.Pruned = encode(err.Error())
	} else if !reflect.DeepEqual(pruned, structural) {
		defaults := map[string]any{}
		collect("", pruned, defaults)
		result.Pruned = encode(defaults)
	}
	result.Lists = lists(q.Name, props)
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		log.Fatalf("%s: %v", q.Name, err)
	}
	for _, pair := range q.Values {
		result.Values = append(result.Values, ask(q, structural, validator, pair))
	}
	for _, value := range q.Spread {
		all := map[string]json.RawMessage{}
		for name := range structural.Properties {
			all[name] = value
		}
		result.Values = append(result.Values, ask(q, structural, validator, []json.RawMessage{encode(all)}))
	}
	return result
}

func ask(q question, s *schema.Structural, validator validation.SchemaValidator, pair []json.RawMessage) (result ofValue) {
	original := decode(q, pair[0])
	if q.Spec {
		original = inSpec(original)
	}
	value := func() any { return runtime.DeepCopyJSONValue(original) }
	changed := func(x any) json.RawMessage {
		if reflect.DeepEqual(x, original) {
			return nil
		}
		return encode(x)
	}
	pth := at(q.At)

	x := value()
	result.Unknown = pruning.PruneWithOptions(x, s, !q.Part, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	result.Pruned = changed(x)

	x = value()
	refused, strangers := objectmeta.CoerceWithOptions(pth, x, s, !q.Part, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if refused != nil {
		result.Refused = show(refused)
		x = value()
		if err, _ := objectmeta.CoerceWithOptions(pth, x, s, !q.Part, objectmeta.CoerceOptions{DropInvalidFields: true}); err != nil {
			log.Fatalf("%s: %v", q.Name, err)
		}
		result.Dropped = changed(x)
	} else {
		result.Strangers = strangers
		result.Coerced = changed(x)
	}

	if object, ok := value().(map[string]any); ok {
		rootMetadata(object, &result)
		result.Root = changed(object)
	}

	x = value()
	defaulting.PruneNonNullableNullsWithoutDefaults(x, s)
	result.Nulls = changed(x)
	x = value()
	defaulting.Default(x, s)
	result.Defaulted = changed(x)

	result.Errors = check(q.Name, func() field.ErrorList { return validation.ValidateCustomResource(pth, value(), validator) })
	if len(pair) > 1 {
		old := decode(q, pair[1])
		if q.Spec {
			old = inSpec(old)
		}
		result.Update = check(q.Name, func() field.ErrorList {
			correlated := common.NewCorrelatedObject(original, old, &model.Structural{Structural: s})
			return validation.ValidateCustomResourceUpdate(pth, value(), old, validator, validation.WithRatcheting(correlated))
		})
	}
	if object, ok := value().(map[string]any); ok {
		result.Lists = check(q.Name, func() field.ErrorList { return listtype.ValidateListSetsAndMaps(pth, s, object) })
	}
	result.Metadata = check(q.Name, func() field.ErrorList {
		return objectmeta.Validate(context.Background(), pth, value(), s, !q.Part)
	})
	return result
}

func rootMetadata(object map[string]any, result *ofValue) {
	set := func(drop bool) ([]string, error) {
		meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(object, objectmeta.ObjectMetaOptions{
			DropMalformedFields: drop, ReturnUnknownFieldPaths: true,
		})
		if err == nil && found {
			err = objectmeta.SetObjectMeta(object, meta)
		}
		sort.Strings(unknown)
		return unknown, err
	}
	unknown, err := set(false)
	result.RootUnknown = unknown
	if err != nil {
		result.RootRefused = err.Error()
		if _, err := set(true); err != nil {
			result.RootFailed = err.Error()
		}
	}
}

// lists are those errors of a definition that no other step finds.
func lists(name string, props *apiextensions.JSONSchemaProps) *found {
	crd := &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "ks.example.com"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "example.com",
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "ks", Singular: "k", Kind: "K", ListKind: "KList"},
			Scope: apiextensions.NamespaceScoped,
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: props},
			}},
			PreserveUnknownFields: new(bool),
		},
		Status: apiextensions.CustomResourceDefinitionStatus{StoredVersions: []string{"v1"}},
	}
	result := check(name, func() (errs field.ErrorList) {
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), crd) {
			text := err.Field + " " + err.Detail
			ours := strings.Contains(text, "x-kubernetes-list-") || strings.Contains(text, "x-kubernetes-map-type")
			if ours && !strings.HasSuffix(text, "to be structural") {
				errs = append(errs, err)
			}
		}
		return errs
	})
	if result != nil {
		result.Any = true
		sort.Strings(result.Errors)
	}
	return result
}

// at is a path of names with dots.
func at(text string) *field.Path {
	if text == "" {
		return nil
	}
	return field.NewPath(text)
}

func decodeSchema(q question) *apiextensions.JSONSchemaProps {
	var props apiextensionsv1.JSONSchemaProps
	if err := utiljson.Unmarshal(q.Schema, &props); err != nil {
		log.Fatalf("%s: %v", q.Name, err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&props, &internal, nil); err != nil {
		log.Fatalf("%s: %v", q.Name, err)
	}
	return &internal
}

func decode(q question, text []byte) (value any) {
	if err := utiljson.Unmarshal(text, &value); err != nil {
		log.Fatalf("%s: %v", q.Name, err)
	}
	return value
}

func inSpec(value any) any {
	return map[string]any{"apiVersion": "g/v1", "kind": "K", "spec": value}
}

func encode(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	return text
}

func show(err *field.Error) string { return fmt.Sprintf("%s %s", string(err.Type), err.Error()) }

// check asks often enough that a random order shows.
func check(name string, ask func() field.ErrorList) *found {
	var first, sorted []string
	result := &found{}
	for i := range 20 {
		var texts []string
		for _, err := range ask() {
			texts = append(texts, show(err))
		}
		again := slices.Clone(texts)
		sort.Strings(again)
		if i == 0 {
			first, sorted = texts, again
			continue
		}
		if !slices.Equal(again, sorted) {
			log.Fatalf("%s: upstream says now this, now that:\n%q\n%q", name, sorted, again)
		}
		result.Any = result.Any || !slices.Equal(texts, first)
	}
	if len(first) == 0 {
		return nil
	}
	result.Errors = first
	if result.Any {
		result.Errors = sorted
	}
	return result
}

// collect finds the defaults of a schema.
func collect(path string, s *schema.Structural, into map[string]any) {
	if s.Default.Object != nil {
		into[path] = s.Default.Object
	}
	if s.Items != nil {
		collect(path+"[]", s.Items, into)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		collect(path+".*", s.AdditionalProperties.Structural, into)
	}
	for name, property := range s.Properties {
		collect(path+"."+name, &property, into)
	}
}
