package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"sift/config"
	"sift/fault"
)

// A setting is one configuration key with what the command line knows about it.
type setting struct {
	key   string // section.name
	typ   reflect.Type
	index []int // of the field in config.Config
}

// settings lists every key of config.Config in declaration order.
func settings() []setting {
	var list []setting
	t := reflect.TypeOf(config.Config{})
	for i := range t.NumField() {
		section := t.Field(i)
		for j := range section.Type.NumField() {
			field := section.Type.Field(j)
			list = append(list, setting{
				key:   section.Tag.Get("mapstructure") + "." + field.Tag.Get("mapstructure"),
				typ:   field.Type,
				index: []int{i, j},
			})
		}
	}
	return list
}

// envName is the environment variable of a key: SIFT_TRAIN_SEED for train.seed.
func envName(key string) string {
	return "SIFT_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// A resolved configuration knows where each of its values came from.
type resolved struct {
	config.Config
	source map[string]string // key -> "default", "file F", "environment SIFT_X", "flag --x"
}

// aliases are the short flags of common keys.
var aliases = map[string]string{
	"model":     "model.path",
	"tokenizer": "model.tokenizer",
	"task":      "task.name",
	"train":     "data.train",
	"valid":     "data.valid",
	"device":    "device.name",
}

// resolve merges defaults, the --config file, SIFT_* variables and flags; the later wins.
// Unknown and duplicate keys, and values of the wrong type, are errors of kind fault.Config.
func resolve(flags *pflag.FlagSet, base config.Config) (*resolved, error) {
	v := viper.New()
	all := settings()
	r := &resolved{Config: base, source: map[string]string{}}
	file, _ := flags.GetString("config")
	if file != "" {
		data, err := readRegular(file, 1<<20)
		if err != nil {
			return nil, err
		}
		if err := checkYAML(file, data, all); err != nil {
			return nil, err
		}
		v.SetConfigType("yaml")
		if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
			return nil, fault.New(fault.Config, "%s: %v", file, err)
		}
	}
	if err := checkEnvironment(all); err != nil {
		return nil, err
	}
	for _, s := range all {
		def := reflect.ValueOf(base).FieldByIndex(s.index)
		v.SetDefault(s.key, def.Interface())
		if err := v.BindEnv(s.key, envName(s.key)); err != nil {
			return nil, fault.New(fault.Internal, "binding %s: %w", s.key, err)
		}
		r.source[s.key] = "default"
		if v.InConfig(s.key) {
			r.source[s.key] = "file " + file
		}
		// Like viper, an empty variable counts as unset.
		if os.Getenv(envName(s.key)) != "" {
			r.source[s.key] = "environment " + envName(s.key)
		}
		bound := ""
		for _, name := range flagNames(s.key) {
			f := flags.Lookup(name)
			if f == nil || !f.Changed {
				continue
			}
			if bound != "" {
				return nil, fault.New(fault.Usage, "--%s and --%s name the same key", bound, name)
			}
			bound = name
			if err := v.BindPFlag(s.key, f); err != nil {
				return nil, fault.New(fault.Internal, "binding --%s: %w", name, err)
			}
			r.source[s.key] = "flag --" + name
		}
		field := reflect.ValueOf(&r.Config).Elem().FieldByIndex(s.index)
		if err := assign(field, v.Get(s.key)); err != nil {
			return nil, fault.New(fault.Config, "%s: %v (from %s)", s.key, err, r.source[s.key])
		}
	}
	before := r.Config
	r.Settle(func(key string) bool { return r.source[key] != "default" })
	if r.Train.Epochs != before.Train.Epochs {
		r.source["train.epochs"] = "train.updates, which replaces it"
	}
	if r.Sift.ScorePrecision != before.Sift.ScorePrecision {
		r.source["sift.score_precision"] = "train.precision, which it follows"
	}
	return r, nil
}

func flagNames(key string) []string {
	names := []string{key}
	for a, k := range aliases {
		if k == key {
			names = append(names, a)
		}
	}
	return names
}

// assign converts a value of a file, a variable or a flag to a field's type, exactly or not at all.
func assign(field reflect.Value, value any) error {
	text := fmt.Sprint(value)
	switch field.Kind() {
	case reflect.String:
		switch value.(type) {
		case map[string]any, []any:
			return errors.New("must be one text")
		case nil:
			text = ""
		}
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			f, ferr := strconv.ParseFloat(text, 64)
			if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
				return fmt.Errorf("%q is not a whole number", text)
			}
			n = int64(f)
		}
		field.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number of 0 or more", text)
		}
		field.SetUint(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		field.SetFloat(f)
	case reflect.Slice:
		return assignList(field, value)
	default:
		return fmt.Errorf("a key of type %s has no conversion", field.Type())
	}
	return nil
}

// assignList converts to a list. One text is a list too: of paths the one, else of the
// parts between commas.
func assignList(field reflect.Value, value any) error {
	list := []string{}
	_, paths := field.Interface().(config.Paths)
	switch x := value.(type) {
	case nil:
	case config.Paths:
		list = append(list, x...)
	case []string:
		list = append(list, x...)
	case []float64:
		field.Set(reflect.ValueOf(append([]float64{}, x...)))
		return nil
	case []any:
		for _, e := range x {
			if _, nested := e.(map[string]any); nested {
				return errors.New("must be a list of texts")
			}
			list = append(list, fmt.Sprint(e))
		}
	case map[string]any:
		return errors.New("must be a list")
	default:
		if text := fmt.Sprint(value); paths {
			if text != "" {
				list = strings.Split(text, pathSeparator)
			}
		} else {
			for _, part := range strings.Split(text, ",") {
				if part = strings.TrimSpace(part); part != "" {
					list = append(list, part)
				}
			}
		}
	}
	if field.Type().Elem().Kind() == reflect.Float64 {
		numbers := make([]float64, len(list))
		for i, part := range list {
			f, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return fmt.Errorf("%q is not a number", part)
			}
			numbers[i] = f
		}
		field.Set(reflect.ValueOf(numbers))
		return nil
	}
	field.Set(reflect.ValueOf(list).Convert(field.Type()))
	return nil
}

// checkYAML reports unknown and duplicate keys with their line; viper alone would swallow both.
func checkYAML(file string, data []byte, all []setting) error {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fault.New(fault.Config, "%s: %v", file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fault.New(fault.Config, "%s: more than one YAML document", file)
	}
	known := map[string]bool{}
	sections := map[string]bool{}
	for _, s := range all {
		known[s.key] = true
		section, _, _ := strings.Cut(s.key, ".")
		sections[section] = true
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null" {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fault.New(fault.Config, "%s: line %d: sections such as train: expected", file, top.Line)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, body := top.Content[i], top.Content[i+1]
		if !sections[name.Value] {
			return fault.New(fault.Config, "%s: line %d: unknown section %q%s", file, name.Line, name.Value, nearest(name.Value, sections))
		}
		if line, twice := seen[name.Value]; twice {
			return fault.New(fault.Config, "%s: line %d: section %s repeats line %d", file, name.Line, name.Value, line)
		}
		seen[name.Value] = name.Line
		if body.Kind == yaml.ScalarNode && body.Tag == "!!null" {
			continue
		}
		if body.Kind != yaml.MappingNode {
			return fault.New(fault.Config, "%s: line %d: %s must hold keys", file, name.Line, name.Value)
		}
		for j := 0; j+1 < len(body.Content); j += 2 {
			key := name.Value + "." + body.Content[j].Value
			line := body.Content[j].Line
			if !known[key] {
				return fault.New(fault.Config, "%s: line %d: unknown key %s%s", file, line, key, nearest(key, known))
			}
			if first, twice := seen[key]; twice {
				return fault.New(fault.Config, "%s: line %d: key %s repeats line %d", file, line, key, first)
			}
			seen[key] = line
		}
	}
	return nil
}

// checkEnvironment reports a SIFT_SECTION_... variable that names no key.
func checkEnvironment(all []setting) error {
	known := map[string]bool{}
	sections := map[string]bool{}
	for _, s := range all {
		known[envName(s.key)] = true
		section, _, _ := strings.Cut(s.key, ".")
		sections[section] = true
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, "SIFT_")
		section, _, more := strings.Cut(rest, "_")
		if ours && more && sections[strings.ToLower(section)] && !known[name] {
			return fault.New(fault.Config, "environment: %s names no configuration key%s", name, nearest(name, known))
		}
	}
	return nil
}

// nearest suggests the known name within two edits of a misspelt one.
func nearest(name string, known map[string]bool) string {
	best, bestDistance := "", 3
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		if d := editDistance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
