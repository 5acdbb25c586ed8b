package main

import (
	"encoding/json"
	"math"
	"os"
	"sort"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/ext"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/version"
	admission "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"

	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
)

// description is an environment in the file.
type description struct {
	// Version is "stored" or a number.
	Version string
	// Schema makes it the environment of a custom resource's rules.
	Schema        *v1.JSONSchemaProps
	Self, OldSelf any
	// Policy makes it that of an admission policy, with these variables.
	Policy map[string]any
	// Bindings has cel.bind, as selectors of devices have it.
	Bindings bool
}

func load(path string) (map[string]*environmentOf, []string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var descriptions map[string]description
	if err := json.Unmarshal(content, &descriptions); err != nil {
		return nil, nil, err
	}
	made := map[string]*environmentOf{}
	var order []string
	for name, d := range descriptions {
		made[name] = d.make()
		order = append(order, name)
	}
	sort.Strings(order)
	return made, order, nil
}

func (d description) make() *environmentOf {
	parsed := version.MajorMinor(math.MaxInt32, 0)
	if d.Version != "stored" {
		parsed = version.MustParse(d.Version)
	}
	base := environment.MustBaseEnvSet(parsed)
	options := environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0)}
	result := &environmentOf{variables: map[string]any{}}
	estimator := &library.CostEstimator{}
	switch {
	case d.Schema != nil:
		structural := must(structuralOf(d.Schema))
		declared := model.SchemaDeclType(structural, true)
		estimator.SizeEstimator = &sizes{root: declared}
		scoped := declared.MaybeAssignTypeName("selfType")
		options.EnvOptions = []cel.EnvOption{
			cel.Variable("self", scoped.CelType()),
			cel.Variable("oldSelf", scoped.CelType()),
		}
		options.DeclTypes = []*apiservercel.DeclType{scoped}
		result.variables["self"] = schemacel.UnstructuredToVal(integers(d.Self), model.WithTypeAndObjectMeta(structural))
		result.variables["oldSelf"] = schemacel.UnstructuredToVal(integers(d.OldSelf), model.WithTypeAndObjectMeta(structural))
	case d.Policy != nil:
		request, namespace := admission.BuildRequestType(), admission.BuildNamespaceType()
		options.EnvOptions = []cel.EnvOption{
			cel.Variable("object", cel.DynType),
			cel.Variable("oldObject", cel.DynType),
			cel.Variable("params", cel.DynType),
			cel.Variable("request", request.CelType()),
			cel.Variable("namespaceObject", namespace.CelType()),
			cel.Variable("authorizer", library.AuthorizerType),
			cel.Variable("authorizer.requestResource", library.ResourceCheckType),
		}
		options.DeclTypes = []*apiservercel.DeclType{request, namespace}
		for name, value := range d.Policy {
			result.variables[name] = integers(value)
		}
		result.variables["authorizer"] = library.NewAuthorizerVal(nil, allowGets{})
		result.variables["authorizer.requestResource"] = library.NewResourceAuthorizerVal(nil, allowGets{}, aPod{})
	case d.Bindings:
		options.EnvOptions = []cel.EnvOption{ext.Bindings(ext.BindingsVersion(0))}
	}
	set := must(base.Extend(options, environment.StrictCostOpt))
	if d.Policy != nil {
		set = must(set.Extend(environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions: []cel.EnvOption{
				common.ResolverEnvOption(&mutation.DynamicTypeResolver{}),
				environment.UnversionedLib(library.JSONPatch),
			},
		}))
	}
	result.env = set.NewExpressionsEnv()
	if d.Version == "stored" {
		result.env = set.StoredExpressionsEnv()
	}
	result.sizes = estimator
	return result
}

func structuralOf(props *v1.JSONSchemaProps) (*schema.Structural, error) {
	var internal apiextensions.JSONSchemaProps
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		return nil, err
	}
	return schema.NewStructural(&internal)
}

// integers are int64 in objects that a request brings, not float64.
func integers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			v[name] = integers(v[name])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	}
	return value
}

// sizes is the estimator of custom resources' rules, which upstream does not export.
type sizes struct{ root *apiservercel.DeclType }

func (s *sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	if len(element.Path()) == 0 {
		return nil
	}
	current := s.root
	for _, name := range element.Path()[1:] {
		switch name {
		case "@items", "@values":
			current = current.ElemType
		case "@keys":
			current = current.KeyType
		default:
			field, found := current.Fields[name]
			if !found {
				return nil
			}
			current = field.Type
		}
		if current == nil {
			return nil
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(current.MaxElements)}
}

func (s *sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
