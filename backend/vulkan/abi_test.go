package vulkan

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const abiFile = "testdata/abi/abi.c"

// TestHeader compiles a file of static assertions that hold each structure, member and
// number of types.h against the real Vulkan header, and sees that none is left out.
func TestHeader(t *testing.T) {
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("the comparison with Vulkan's header needs gcc")
	}
	if out, err := exec.Command(compiler, "-E", "-x", "c", "-include", "vulkan/vulkan.h", "-o", os.DevNull, os.DevNull).CombinedOutput(); err != nil {
		if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
			t.Fatalf("Vulkan's headers: %v: %s", err, out)
		}
		t.Skip("Vulkan's headers are not installed (Debian: libvulkan-dev)")
	}
	compile := func(flags ...string) (string, error) {
		out, err := exec.Command(compiler, append(flags, "-std=gnu11", "-Wall", "-fsyntax-only", abiFile)...).CombinedOutput()
		return string(out), err
	}
	if out, err := compile(); err != nil {
		t.Errorf("%s\n%v", out, err)
	}
	// With every size off by one, every comparison of sizes must fail.
	source := read(t, abiFile)
	sizes := strings.Count(source, "\nSIZE(")
	if out, err := compile("-DOFF=1"); err == nil || strings.Count(out, "error:") < sizes-2 || sizes < 15 {
		t.Errorf("%d of %d wrong sizes are found: %v", strings.Count(out, "error:"), sizes, err)
	}
	for _, want := range declared(t, read(t, "types.h")) {
		if !strings.Contains(source, want) {
			t.Errorf("types.h declares what %s does not compare: %s", abiFile, want)
		}
	}
}

// declared returns what must stand in the comparison: "IS(NAME," for each enumerator,
// "AT(structure, member," for each member.
func declared(t *testing.T, header string) (all []string) {
	header = regexp.MustCompile(`//.*`).ReplaceAllString(header, "")
	for _, body := range regexp.MustCompile(`(?s)\benum \{(.*?)\};`).FindAllStringSubmatch(header, -1) {
		for _, name := range regexp.MustCompile(`(\w+)\s*=`).FindAllStringSubmatch(body[1], -1) {
			all = append(all, "IS("+name[1]+",")
		}
	}
	enumerators := len(all)
	for _, s := range regexp.MustCompile(`(?s)\bstruct (\w+) \{(.*?)\};`).FindAllStringSubmatch(header, -1) {
		for _, line := range strings.Split(s[2], ";") {
			for _, member := range regexp.MustCompile(`(\w+)(?:\[\w+\])?\s*(?:,|$)`).FindAllStringSubmatch(strings.TrimSpace(line), -1) {
				switch name := member[1]; {
				case name == "type" || name == "next":
					all = append(all, "CHAIN("+s[1]+",")
				case s[1] == "props2": // space for a structure the header describes
				default:
					all = append(all, "AT("+s[1]+", "+name+",")
				}
			}
		}
	}
	if enumerators < 30 || len(all)-enumerators < 100 {
		t.Errorf("only %d numbers and %d members are read out of types.h", enumerators, len(all)-enumerators)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
