package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// definitions are definitions of custom resources, and what is changed of them. A change is a path, with slashes
// between its steps, and a value; null takes away what is there. A path that begins with @ is one in the schema of
// the first version.
type definitions struct {
	Seeds map[string]json.RawMessage `json:"seeds"`
	Cases []struct {
		Name string  `json:"name"`
		Seed string  `json:"seed"`
		Set  [][]any `json:"set"`
		// Part is set where the status is written.
		Part string `json:"part"`
	} `json:"cases"`
}

// ofDefinition is what comes of the changed definition: as a new one, in the place of the seed that is served or is
// not, in its own place (with a label more), and of the seed in its place.
type ofDefinition struct {
	Name   string   `json:"name"`
	Create *written `json:"create,omitempty"`
	Update *written `json:"update,omitempty"`
	Served *written `json:"served,omitempty"`
	Kept   *written `json:"kept,omitempty"`
	Back   *written `json:"back,omitempty"`
	Part   *written `json:"part,omitempty"`
}

// written is what would be stored, or what is wrong.
type written struct {
	*found
	Warnings []string        `json:"warnings,omitempty"`
	Object   json.RawMessage `json:"object,omitempty"`
}

var scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	return scheme
}()

func (d definitions) ask(encode func(any) error) error {
	for _, c := range d.Cases {
		seed, ok := d.Seeds[c.Seed]
		if !ok {
			return fmt.Errorf("%s: there is no seed %s", c.Name, c.Seed)
		}
		changed := func() any { return changes(c.Name, seed, c.Set) }
		plain := func() any { return changes(c.Name, seed, nil) }
		result := ofDefinition{Name: c.Name}
		if c.Part != "" {
			result.Part = update(c.Name, c.Part, changed, func() any { return served(plain()) })
		} else {
			result.Create = create(c.Name, changed)
			result.Update = update(c.Name, "", changed, plain)
			result.Served = update(c.Name, "", changed, func() any { return served(plain()) })
			result.Kept = update(c.Name, "", func() any { return labeled(changed()) }, func() any { return served(changed()) })
			result.Back = update(c.Name, "", plain, func() any { return served(changed()) })
		}
		if err := encode(result); err != nil {
			return err
		}
	}
	return nil
}

// changes makes a definition of its seed.
func changes(name string, seed []byte, set [][]any) any {
	var object any
	if err := utiljson.Unmarshal(seed, &object); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	for _, change := range set {
		path := strings.Replace(change[0].(string), "@", "spec/versions/0/schema/openAPIV3Schema", 1)
		object = put(name, object, strings.Split(path, "/"), change[1])
	}
	return object
}

func put(name string, object any, path []string, value any) any {
	if len(path) == 0 {
		return runtime.DeepCopyJSONValue(numbers(value))
	}
	switch of := object.(type) {
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i > len(of) {
			log.Fatalf("%s: no place %s in a list", name, path[0])
		}
		if i == len(of) {
			return append(of, put(name, nil, path[1:], value))
		}
		if value == nil && len(path) == 1 {
			return slices.Delete(of, i, i+1)
		}
		of[i] = put(name, of[i], path[1:], value)
		return of
	case map[string]any:
		if value == nil && len(path) == 1 {
			delete(of, path[0])
			return of
		}
		of[path[0]] = put(name, of[path[0]], path[1:], value)
		return of
	case nil:
		return map[string]any{path[0]: put(name, nil, path[1:], value)}
	default:
		log.Fatalf("%s: there is nothing below %v", name, object)
		return nil
	}
}

// numbers are as the API server reads them.
func numbers(value any) any {
	var again any
	if err := utiljson.Unmarshal(encode(value), &again); err != nil {
		log.Fatal(err)
	}
	return again
}

func served(object any) any {
	condition := map[string]any{"type": "Established", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
	return put("served", object, []string{"status", "conditions"}, []any{condition})
}

func labeled(object any) any {
	return put("labeled", object, []string{"metadata", "labels", "more"}, "yes")
}

// decoded is a definition as a request brings it, or as it was stored.
func decoded(name string, object any) *apiextensions.CustomResourceDefinition {
	versioned := &apiextensionsv1.CustomResourceDefinition{}
	if err := utiljson.Unmarshal(encode(object), versioned); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	scheme.Default(versioned)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(versioned, internal, nil); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return internal
}

func at2026() metav1.Time { return metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) }

func create(name string, make func() any) *written {
	return write(name, func(ctx context.Context) (*apiextensions.CustomResourceDefinition, []string, error) {
		strategy := customresourcedefinition.NewStrategy(scheme)
		crd := decoded(name, make())
		rest.WipeObjectMetaSystemFields(crd)
		crd.UID, crd.CreationTimestamp = "u", at2026()
		err := rest.BeforeCreate(strategy, ctx, crd)
		return crd, strategy.WarningsOnCreate(ctx, crd), err
	})
}

func update(name, part string, make, old func() any) *written {
	return write(name, func(ctx context.Context) (*apiextensions.CustomResourceDefinition, []string, error) {
		was, crd := decoded(name, old()), decoded(name, make())
		for _, crd := range []*apiextensions.CustomResourceDefinition{was, crd} {
			crd.UID, crd.CreationTimestamp, crd.ResourceVersion = "u", at2026(), "1"
		}
		was.Generation = 1
		// The old one comes from etcd.
		stored := &apiextensionsv1beta1.CustomResourceDefinition{}
		if err := scheme.Convert(was, stored, nil); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		scheme.Default(stored)
		was = &apiextensions.CustomResourceDefinition{}
		if err := scheme.Convert(stored, was, nil); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		if part != "" {
			strategy := customresourcedefinition.NewStatusStrategy(scheme)
			return crd, nil, rest.BeforeUpdate(strategy, ctx, crd, was)
		}
		strategy := customresourcedefinition.NewStrategy(scheme)
		err := rest.BeforeUpdate(strategy, ctx, crd, was)
		return crd, strategy.WarningsOnUpdate(ctx, crd, was), err
	})
}

// selfType is the name that upstream draws for the type of what a rule is about.
var selfType = regexp.MustCompile(`selfType\d+`)

// write asks often enough that a random order shows.
func write(name string, ask func(context.Context) (*apiextensions.CustomResourceDefinition, []string, error)) *written {
	defer func() {
		if why := recover(); why != nil {
			log.Fatalf("%s: panic: %v", name, why)
		}
	}()
	ctx := genericapirequest.NewContext()
	ctx = genericapirequest.WithNamespace(ctx, "")
	result := &written{found: &found{Errors: []string{}}}
	var sorted []string
	for i := range 80 {
		if i > 0 && len(sorted) < 2 {
			break
		}
		crd, warnings, err := ask(ctx)
		texts := causes(name, err)
		again := slices.Sorted(slices.Values(texts))
		if i > 0 {
			if !slices.Equal(again, sorted) {
				log.Fatalf("%s: upstream says now this, now that:\n%q\n%q", name, sorted, again)
			}
			result.Any = result.Any || !slices.Equal(texts, result.Errors)
			continue
		}
		sorted, result.Errors = again, texts
		if err != nil {
			continue
		}
		sort.Strings(warnings)
		result.Warnings = warnings
		stored := &apiextensionsv1beta1.CustomResourceDefinition{}
		if err := scheme.Convert(crd, stored, nil); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		result.Object = encode(stored)
	}
	if result.Any {
		result.Errors = sorted
	}
	return result
}

func causes(name string, err error) (texts []string) {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		log.Fatalf("%s: %v", name, err)
	}
	for _, cause := range status.Status().Details.Causes {
		text := fmt.Sprintf("%s %s: %s", cause.Type, cause.Field, cause.Message)
		texts = append(texts, selfType.ReplaceAllString(text, "selfType"))
	}
	if len(texts) == 0 {
		log.Fatalf("%s: %v", name, err)
	}
	return texts
}

// check finds seeds that are not used, and names that are used twice.
func (d definitions) check() error {
	used := map[string]bool{}
	names := map[string]bool{}
	for _, c := range d.Cases {
		used[c.Seed] = true
		if names[c.Name] {
			return fmt.Errorf("two cases are called %s", c.Name)
		}
		names[c.Name] = true
	}
	for seed := range d.Seeds {
		if !used[seed] {
			return fmt.Errorf("no case is of the seed %s", seed)
		}
	}
	return nil
}
