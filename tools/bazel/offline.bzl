"""External repositories for Debian's Bazel 4.2.3, made without a network.

The built-in workspace of Bazel downloads rules_cc, rules_java and the coverage
tools. This project uses none of them, so small stand-ins and Debian's own
rules_java replace them.
"""

_PYTHON = """\
py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
"""

_CC = "\n".join([
    "{0} = native.{0}".format(rule)
    for rule in [
        "cc_binary",
        "cc_import",
        "cc_library",
        "cc_proto_library",
        "cc_test",
        "cc_toolchain",
        "cc_toolchain_suite",
        "fdo_prefetch_hints",
        "fdo_profile",
        "objc_library",
    ]
])

_COVERAGE = """\
filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
"""

def _stand_in_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name)
    for path, content in ctx.attr.contents.items():
        ctx.file(path, content)

_stand_in = repository_rule(
    implementation = _stand_in_impl,
    attrs = {"contents": attr.string_dict()},
    local = True,
)

# buildifier: disable=unnamed-macro
def offline_repositories():
    """Declares every repository that Bazel 4.2.3 would download."""
    _stand_in(
        name = "rules_python",
        contents = {"python/BUILD": "", "python/defs.bzl": _PYTHON},
    )
    _stand_in(
        name = "rules_cc",
        contents = {"cc/BUILD": "", "cc/defs.bzl": _CC},
    )
    _stand_in(
        name = "remote_coverage_tools",
        contents = {"BUILD": _COVERAGE},
    )
    native.local_repository(
        name = "rules_java",
        path = "/usr/share/bazel/rules/java",
    )
