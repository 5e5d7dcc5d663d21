#!/usr/bin/env python3
"""Holds backend/cuda/driver/cuda.h and functions.h against NVIDIA's own cuda.h: every function's
types by its symbol in the driver, every constant, and the size and each member's place of every
structure.

  scripts/cuda/abi.py [HEADER]    HEADER defaults to the one of the package nvidia-cuda-runtime-cu12, which
                               is fetched; nothing of it is kept in the repository
"""
import os, re, subprocess, sys, tempfile, zipfile, glob

VERSION = "12.9.79"
# What the functions that are taken in their older version call by the older name.
RENAMED = {"CUDA_KERNEL_NODE_PARAMS": "CUDA_KERNEL_NODE_PARAMS_v1"}
# Constants that newer headers have dropped: drivers still take them, and nothing can be compared.
DROPPED = re.compile(r"CU_TARGET_COMPUTE_(1[0-3]|2[01])$")

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ours = os.path.join(root, "backend/cuda/driver")
text = re.sub(r"//.*", "", open(os.path.join(ours, "cuda.h")).read())


def fail(message):
    sys.exit("abi: " + message)


def fetched():
    to = os.path.join(root, "build/cuda/header")
    path = os.path.join(to, "nvidia/cuda_runtime/include/cuda.h")
    if not os.path.exists(path):
        os.makedirs(to, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--dest", to, "nvidia-cuda-runtime-cu12==" + VERSION]
        if subprocess.run(command).returncode != 0:
            fail("nvidia-cuda-runtime-cu12 %s could not be fetched" % VERSION)
        for wheel in glob.glob(os.path.join(to, "*.whl")):
            zipfile.ZipFile(wheel).extractall(to)
            os.remove(wheel)
    return path


def compile(source, *flags, run=False):
    with tempfile.TemporaryDirectory() as d:
        name = os.path.join(d, "abi.cpp")
        open(name, "w").write(source)
        out = os.path.join(d, "abi")
        command = ["g++", "-std=c++17", "-fmax-errors=20", "-o", out, name, *flags] + ([] if run else ["-fsyntax-only"])
        r = subprocess.run(command, capture_output=True, text=True)
        if r.returncode != 0:
            return None, r.stderr
        return (subprocess.run([out], capture_output=True, text=True, check=True).stdout if run else ""), ""


structs = {}
for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", text, re.S):
    structs[name] = [re.sub(r"\[.*", "", part).split()[-1].lstrip("*")
                     for line in body.split(";") for part in line.split(",") if part.strip()]
constants = [c for body in re.findall(r"typedef enum \w+ \{(.*?)\}", text, re.S) for c in re.findall(r"(\w+) =", body)]
constants += re.findall(r"#define (CU_\w+) ", text)
enums = re.findall(r"\} (CU\w+);", "".join(re.findall(r"typedef enum \w+ \{.*?\} CU\w+;", text, re.S)))
functions = re.findall(r"^F\d+\((\w+), (\w+)", open(os.path.join(ours, "functions.h")).read(), re.M)
if len(functions) < 150 or len(constants) < 250 or len(structs) < 8:
    fail("only %d functions, %d constants and %d structures were found in our header" % (len(functions), len(constants), len(structs)))

# What our header says, as claims about names.
program = '#include "cuda.h"\n#include <cstdio>\nint main() {\n'
for c in constants:
    program += 'printf("static_assert((long long)%s == %%lldLL, \\"%s\\");\\n", (long long)%s);\n' % (c, c, c)
for name, members in structs.items():
    program += 'printf("static_assert(sizeof(%s) == %%zu, \\"%s\\");\\n", sizeof(%s));\n' % (name, name, name)
    for m in members:
        program += ('printf("static_assert(offsetof(%s, %s) == %%zu && sizeof(%s::%s) == %%zu, \\"%s.%s\\");\\n", '
                    'offsetof(%s, %s), sizeof(%s::%s));\n') % ((name, m) * 5)
for e in enums:
    program += 'printf("static_assert(sizeof(%s) == %%zu, \\"%s\\");\\n", sizeof(%s));\n' % (e, e, e)
claims, error = compile(program + "}\n", "-I" + ours, run=True)
if claims is None:
    fail("our header does not compile:\n" + error)
claims = "".join(line + "\n" for line in claims.splitlines() if not DROPPED.match(line.split('"')[1]))

# Against theirs. With versions internal, it declares every symbol by its own name.
header = sys.argv[1] if len(sys.argv) > 1 else fetched()
source = "#define __CUDA_API_VERSION_INTERNAL\n#include <%s>\n#include <cstddef>\n" % header
for name, other in RENAMED.items():
    source += "#define %s %s\n" % (name, other)
source += claims
letters = ["A%d" % i for i in range(12)]
for n in range(12):
    args = letters[:n]
    source += "#define F%d(%s) static_assert(__is_same(decltype(symbol), CUresult(%s)), #symbol);\n" % (
        n, ", ".join(["name", "symbol"] + args), ", ".join(args) if args else "void")
source += '#include "%s/functions.h"\n' % ours
_, error = compile(source, "-I" + os.path.dirname(header))
if error:
    lines = [l for l in error.splitlines() if "error:" in l]
    sys.stderr.write("\n".join("abi: " + re.sub(r"^\S*?error: ", "", l) for l in lines) + "\n")
    fail("our header differs from %s" % header)
print("abi: %d functions, %d constants and %d structures are those of NVIDIA's header" % (len(functions), len(constants), len(structs)))
