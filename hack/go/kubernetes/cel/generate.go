package main

import (
	"sort"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// literals are expressions of each type, those that show most first.
var literals = map[string][]string{
	"bool":                      {"true", "false"},
	"bytes":                     {"b'abc'", "b'\\xff'", "b''"},
	"double":                    {"1.5", "-2.0", "0.0", "1e300", "double('NaN')"},
	"google.protobuf.Duration":  {"duration('90m')", "duration('-1.5s')", "duration('2h45m30.5s')"},
	"int":                       {"1", "0", "-3", "9223372036854775807"},
	"null_type":                 {"null"},
	"string":                    {"'abc'", "'b'", "''", "'a,b'", "'3'", "'10.0.0.0/8'", "'1.2.3'", "'https://u:p@h.example:80/a%20b?x=1&x=2#f'", "'äöü日'"},
	"google.protobuf.Timestamp": {"timestamp('2024-02-29T12:34:56.789Z')", "timestamp('1969-12-31T23:59:59+05:30')"},
	"uint":                      {"1u", "0u", "18446744073709551615u"},
	"dyn":                       {"dyn(1)", "dyn('a')", "dyn([1])", "dyn(null)"},
	"type":                      {"int", "type('a')"},
	"net.IP":                    {"ip('10.1.2.3')", "ip('::1')", "ip('fe80::1')"},
	"net.CIDR":                  {"cidr('10.0.0.0/8')", "cidr('fd00::1/64')"},
	"kubernetes.Quantity":       {"quantity('1.5Gi')", "quantity('200m')", "quantity('-2k')"},
	"kubernetes.URL":            {"url('https://h.example:80/a%20b?x=1&x=2')", "url('/p')"},
	"kubernetes.Semver":         {"semver('1.2.3')", "semver('1.2.3-rc.1')"},
	"kubernetes.NamedFormat":    {"format.dns1123Label()", "format.uri()"},

	"kubernetes.authorization.Authorizer":    {"authorizer", "authorizer.serviceAccount('ns', 'sa')"},
	"kubernetes.authorization.PathCheck":     {"authorizer.path('/healthz')"},
	"kubernetes.authorization.GroupCheck":    {"authorizer.group('apps')"},
	"kubernetes.authorization.ResourceCheck": {"authorizer.group('').resource('pods')", "authorizer.requestResource"},
	"kubernetes.authorization.Decision":      {"authorizer.requestResource.check('get')", "authorizer.requestResource.name('broken').check('get')"},
}

// of makes expressions of a type; parameters of types are ints, and strings for keys of maps.
func of(t *cel.Type) []string {
	switch t.Kind() {
	case types.TypeParamKind:
		return []string{"1", "2"}
	case types.ListKind:
		inner := of(t.Parameters()[0])
		lists := []string{"[" + inner[0] + "]", "[]"}
		if len(inner) > 1 {
			lists = append([]string{"[" + inner[0] + ", " + inner[1] + ", " + inner[0] + "]"}, lists...)
		}
		return lists
	case types.MapKind:
		key, value := of(t.Parameters()[0]), of(t.Parameters()[1])
		return []string{"{" + key[0] + ": " + value[0] + "}", "{}"}
	case types.OpaqueKind:
		if t.TypeName() == "optional_type" {
			inner := of(t.Parameters()[0])
			return []string{"optional.of(" + inner[0] + ")", "optional.none()"}
		}
	}
	return literals[t.TypeName()]
}

// Most expressions of one overload.
const most = 40

// generate calls every overload of an environment with values of its types: all combinations, as far as there
// are not too many, and the first one with types that are known at run time only.
func generate(name string, env *cel.Env) []string {
	if name != "base" && name != "policy" && name != "stored" {
		return nil
	}
	var names []string
	for function := range env.Functions() {
		names = append(names, function)
	}
	sort.Strings(names)
	var expressions []string
	for _, function := range names {
		decl := env.Functions()[function]
		if decl.IsDeclarationDisabled() {
			continue
		}
		for _, overload := range decl.OverloadDecls() {
			isPolicy := strings.HasPrefix(overload.ID(), "authorizer") || strings.Contains(overload.ID(), "check") ||
				strings.HasPrefix(overload.ID(), "decision") || strings.Contains(overload.ID(), "jsonpatch")
			isNew := strings.Contains(overload.ID(), "includes")
			if isPolicy != (name == "policy") || isNew != (name == "stored") {
				continue
			}
			arguments := make([][]string, len(overload.ArgTypes()))
			for i, t := range overload.ArgTypes() {
				arguments[i] = of(t)
			}
			for i, chosen := range combinations(arguments) {
				if i == most {
					break
				}
				if call, ok := write(function, overload.IsMemberFunction(), chosen); ok {
					expressions = append(expressions, call)
				}
				if i > 2 {
					continue
				}
				dynamic := make([]string, len(chosen))
				for j, argument := range chosen {
					dynamic[j] = "dyn(" + argument + ")"
				}
				if call, ok := write(function, overload.IsMemberFunction(), dynamic); ok && len(dynamic) > 0 {
					expressions = append(expressions, call)
				}
				// Whatever it says to a first argument of another type.
				for _, other := range []string{"dyn(true)", "dyn('x')", "dyn(1.5)"} {
					if len(dynamic) == 0 {
						break
					}
					dynamic[0] = other
					if call, ok := write(function, overload.IsMemberFunction(), dynamic); ok && i == 0 {
						expressions = append(expressions, call)
					}
				}
			}
		}
	}
	return expressions
}

func combinations(arguments [][]string) [][]string {
	chosen := [][]string{{}}
	for _, values := range arguments {
		var longer [][]string
		for _, before := range chosen {
			for _, value := range values {
				longer = append(longer, append(append([]string{}, before...), value))
			}
		}
		chosen = longer
	}
	return chosen
}

func write(function string, member bool, arguments []string) (string, bool) {
	switch function {
	case operators.Conditional:
		return arguments[0] + " ? " + arguments[1] + " : " + arguments[2], true
	case operators.Index:
		return arguments[0] + "[" + arguments[1] + "]", true
	case operators.OptIndex:
		return arguments[0] + "[?" + arguments[1] + "]", true
	case operators.OptSelect:
		return arguments[0] + ".?a", true
	case operators.LogicalNot:
		return "!" + arguments[0], true
	case operators.Negate:
		return "-(" + arguments[0] + ")", true
	}
	if symbol, found := operators.FindReverseBinaryOperator(function); found && len(arguments) == 2 {
		return arguments[0] + " " + symbol + " " + arguments[1], true
	}
	if strings.ContainsAny(function, "@") {
		return "", false
	}
	if member {
		return arguments[0] + "." + function + "(" + strings.Join(arguments[1:], ", ") + ")", true
	}
	return function + "(" + strings.Join(arguments, ", ") + ")", true
}
