package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// openapiName is the name of the definition of a type: its own word for it, or its Go path with the
// host reversed.
func openapiName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	host, path, _ := strings.Cut(t.PkgPath(), "/")
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

// readSchemas adds what the generated OpenAPI definitions know: required fields, enumerations and how
// server-side apply treats lists and maps. Definitions exist for versions that are not served too.
func (c *catalogue) readSchemas() error {
	definitions := openapi.GetOpenAPIDefinitions(func(path string) spec.Ref { return spec.MustCreateRef("#/" + path) })
	for _, m := range c.messages {
		d, ok := definitions[m.openapi]
		if !ok || m.name == "runtime.Unknown" {
			continue // the AdmissionReview and audit families; an envelope without JSON
		}
		mapType, _ := d.Schema.Extensions.GetString("x-kubernetes-map-type")
		m.atomic = mapType == "atomic"
		for _, f := range m.fields {
			if f.embedded {
				continue
			}
			if err := f.readSchema(d); err != nil {
				return fmt.Errorf("%s.%s: %w", m.name, f.json, err)
			}
		}
	}
	return nil
}

func (f *field) readSchema(d common.OpenAPIDefinition) error {
	p, ok := d.Schema.Properties[f.json]
	if !ok {
		return fmt.Errorf("not in the definition")
	}
	f.required = slices.Contains(d.Schema.Required, f.json)
	f.listType, _ = p.Extensions.GetString("x-kubernetes-list-type")
	f.listKeys, _ = p.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
	mapType, _ := p.Extensions.GetString("x-kubernetes-map-type")
	f.mapAtomic = mapType == "atomic"
	values := p.Enum
	if p.Items != nil && p.Items.Schema != nil {
		values = append(values, p.Items.Schema.Enum...)
	}
	if p.AdditionalProperties != nil && p.AdditionalProperties.Schema != nil {
		values = append(values, p.AdditionalProperties.Schema.Enum...)
	}
	for _, v := range values {
		s, ok := v.(string)
		if !ok || strings.Contains(s, "|") {
			return fmt.Errorf("enumeration with %v", v)
		}
		f.enum = append(f.enum, s)
	}
	slices.Sort(f.enum)
	return nil
}
