// Command cel evaluates expressions as upstream's API server does, and writes for each what it is told about
// it: type, value or error, estimated and actual cost. cel/tests/upstream.rs holds ours against it.
//
// Expressions come from a file of lines "environment: expression", and from every overload of every function,
// called with values of its types.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/interpreter"

	"k8s.io/apiserver/pkg/cel/library"
)

// environmentOf is one set of declarations with values for its variables.
type environmentOf struct {
	env       *cel.Env
	variables map[string]any
	sizes     checker.CostEstimator
}

// answer is what is recorded of one expression.
type answer struct {
	Environment string `json:"env"`
	Expression  string `json:"expr"`
	// Panics is set where upstream does; then there is nothing to agree with.
	Panics bool `json:"panics,omitempty"`
	// Issues are those of the compilation, or what the making of the program said.
	Issues  string `json:"issues,omitempty"`
	Program string `json:"program,omitempty"`
	Type    string `json:"type,omitempty"`
	Min     uint64 `json:"min,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Value   string `json:"value,omitempty"`
	Error   string `json:"error,omitempty"`
	Cost    uint64 `json:"cost,omitempty"`
}

func main() {
	environments := flag.String("environments", "", "file that describes the environments")
	expressions := flag.String("expressions", "", "file with expressions")
	flag.Parse()
	envs, order, err := load(*environments)
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	ask := func(name, expression string) {
		if err := encoder.Encode(evaluate(name, envs[name], expression)); err != nil {
			log.Fatal(err)
		}
	}
	file, err := os.Open(*expressions)
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, expression, found := strings.Cut(line, ": ")
		if !found || envs[name] == nil {
			log.Fatalf("no environment: %s", line)
		}
		ask(name, strings.ReplaceAll(expression, "⏎", "\n"))
	}
	for _, name := range order {
		for _, expression := range generate(name, envs[name].env) {
			ask(name, expression)
		}
	}
}

func evaluate(name string, of *environmentOf, expression string) (result answer) {
	result = answer{Environment: name, Expression: expression}
	defer func() {
		// The server that answers requests survives that too.
		if recover() != nil {
			result = answer{Environment: name, Expression: expression, Panics: true}
		}
	}()
	ast, issues := of.env.Compile(expression)
	if issues != nil {
		result.Issues = issues.String()
		return result
	}
	result.Type = ast.OutputType().String()
	estimate, err := of.env.EstimateCost(ast, of.sizes)
	if err != nil {
		log.Fatalf("%s: %v", expression, err)
	}
	result.Min, result.Max = estimate.Min, estimate.Max
	program, err := of.env.Program(ast, cel.CostTracking(&library.CostEstimator{}))
	if err != nil {
		result.Program = err.Error()
		return result
	}
	value, details, err := program.Eval(activation(of.variables))
	if details != nil && details.ActualCost() != nil {
		result.Cost = *details.ActualCost()
	}
	if err != nil {
		result.Error = err.Error()
		return result
	}
	result.Value = show(value)
	return result
}

// activation answers for variables whose names have dots too.
type activation map[string]any

func (a activation) ResolveName(name string) (any, bool) {
	value, found := a[name]
	return value, found
}

func (a activation) Parent() interpreter.Activation { return nil }

func must[T any](value T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("environment misconfigured: %v", err))
	}
	return value
}
