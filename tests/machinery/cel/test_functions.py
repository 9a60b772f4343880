"""CEL's operators and every group of functions, against the values Kubernetes' documentation and cel-go give."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pinnace.machinery.cel import syntax
from pinnace.machinery.cel.environment import CelError, CompileError, Environment
from pinnace.machinery.cel.types import DYN, INT, STRING

ENVIRONMENT = Environment(37, {"self": DYN, "text": STRING, "number": INT})
DATA = {
    "self": {"x": 1, "none": None, "half": 0.5, "list": [1, 2, 3], "names": ["a", "b"], "map": {"k": "v"}},
    "text": "hello",
    "number": 7,
}


def evaluate(expression: str) -> Any:
    return ENVIRONMENT.compile(expression).evaluate(DATA)


OPERATORS = [
    ("1 + 2 * 3", 7),
    ("-7 / 2", -3),
    ("-7 % 2", -1),
    ("7.0 / 2.0", 3.5),
    ("1u + 2u", 3),
    ("'a' + 'b'", "ab"),
    ("[1] + [2]", [1, 2]),
    ("1 < 2.5", True),
    ("self.x == 1.0", True),
    ("self.half < 1", True),
    ("self.none == null", True),
    ("true && false || true", True),
    ("1 in [1, 2]", True),
    ("'k' in self.map", True),
    ("self.list[1]", 2),
    ("self.map['k']", "v"),
    ("self.x > 0 ? 'yes' : 'no'", "yes"),
    ("has(self.x) && !has(self.y)", True),
    ("has(self.none)", True),
    ("type(self.x) == int", True),
    ("type(self.list) == list", True),
    ("type(text) == string && type(1) != uint", True),
    ("type(timestamp('2020-01-01T00:00:00Z')) == google.protobuf.Timestamp", True),
    ("{'a': 1, 'b': 2}.size()", 2),
    ("[1, 2, 3] == [1, 2, 3]", True),
    ("{'a': [1]} == {'a': [1]}", True),
    ("self.x == true", False),
    ("1/0 == 1 || true", True),
    ("false && 1/0 == 1", False),
]
MACROS = [
    ("self.list.all(v, v > 0)", True),
    ("self.list.exists(v, v == 9)", False),
    ("self.list.exists_one(v, v == 2)", True),
    ("self.list.map(v, v * 2)", [2, 4, 6]),
    ("self.list.map(v, v > 1, v * 2)", [4, 6]),
    ("self.list.filter(v, v != 2)", [1, 3]),
    ("self.map.all(k, k == 'k')", True),
    ("[1, 0].exists(v, 1 / v == 1)", True),
    ("[0, 5].all(v, 1 / v > 1)", False),
    ("cel.bind(v, number, v + v)", 14),
    ("self.list.all(i, v, v == i + 1)", True),
    ("self.list.exists(i, v, v == i)", False),
    ("self.list.existsOne(i, v, i == 0)", True),
    ("self.list.transformList(i, v, i > 0, v * 2)", [4, 6]),
    ("self.map.transformMap(k, v, k + v)", {"k": "kv"}),
    ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v)", {"b": 2}),
    ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", {"x": "a"}),
    ("[[1, 2], [3]].map(l, l.map(v, v + 1))", [[2, 3], [4]]),
]
OPTIONALS = [
    ("self.?x.orValue(3)", 1),
    ("self.?y.orValue(3)", 3),
    ("self.?y.?z.hasValue()", False),
    ("self.?map.k.value()", "v"),
    ("self.list[?9].orValue(0)", 0),
    ("optional.of(1).optMap(v, v + 1).value()", 2),
    ("optional.none().or(optional.of(2)).value()", 2),
    ("optional.ofNonZeroValue('').hasValue()", False),
    ("[1, ?optional.none(), ?optional.of(2)]", [1, 2]),
    ("{'a': 1, ?'b': optional.none()}", {"a": 1}),
]
CONVERSIONS = [
    ("int('12') + int(3.7) + int(-0.5)", 15),
    ("double('1.5') + double(1)", 2.5),
    ("string(1.0) + string(true) + string(1.5e30)", "1true1.5e+30"),
    ("string(b'abc')", "abc"),
    ("string(1234567.0) + ' ' + string(123456.0) + ' ' + string(0.0001)", "1.234567e+06 123456 0.0001"),
    (
        "string(0.00001) + ' ' + string(-0.0) + ' ' + string(double(9223372036854775807))",
        "1e-05 -0 9.223372036854776e+18",
    ),
    ("bytes('é').size()", 2),
    ("size('é')", 1),
    ("bool('T')", True),
    ("string(duration('1h30m'))", "5400s"),
    ("string(timestamp('2020-01-01T00:00:00.5Z'))", "2020-01-01T00:00:00.5Z"),
    ("timestamp('2020-01-01T00:00:00+01:00') < timestamp('2020-01-01T00:00:00Z')", True),
    ("timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')", True),
    ("timestamp('2020-01-01T00:00:00Z').getDayOfWeek()", 3),
    ("timestamp('2020-01-01T00:00:00Z').getHours('America/New_York')", 19),
    ("timestamp('2020-01-01T00:00:00Z').getFullYear('-01:00')", 2019),
    ("duration('90s').getMinutes()", 1),
    ("base64.encode(b'hello') + string(base64.decode('aGk='))", "aGVsbG8=hi"),
    ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
]
STRINGS = [
    ("text.charAt(1)", "e"),
    ("text.contains('ell') && text.startsWith('he') && text.endsWith('lo')", True),
    ("text.indexOf('l') + text.indexOf('l', 3) + text.lastIndexOf('l')", 8),
    ("text.replace('l', 'L', 1)", "heLlo"),
    ("text.substring(1, 3)", "el"),
    ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
    ("['a', 'b'].join('-')", "a-b"),
    ("'AbÉ'.lowerAscii() + 'ab'.upperAscii()", "abÉAB"),
    ("'  a '.trim() + 'abc'.reverse()", "acba"),
    ("strings.quote('a\"b')", '"a\\"b"'),
    ("'%s: %d %.2f %x %b'.format(['n', 3, 1.234, 255, 5])", "n: 3 1.23 ff 101"),
    ("'%s'.format([[1, 2]])", "[1, 2]"),
    ("'%s'.format([{'a': 1}])", "{a: 1}"),
    ("text.matches('^h.*o$')", True),
    ("'abc 123 45'.find('[0-9]+')", "123"),
    ("'abc'.find('x')", ""),
    ("'1 2 3'.findAll('[0-9]', 2)", ["1", "2"]),
]
NUMBERS = [
    ("math.greatest(1, 3, 2) + math.least([4, 2])", 5),
    ("math.greatest(1, 2.5)", 2.5),
    ("math.ceil(1.2) + math.floor(-1.2)", 0.0),
    ("math.round(2.5)", 3.0),
    ("math.abs(-3) + math.sign(-2)", 2),
    ("math.bitOr(5, 2) + math.bitShiftLeft(1, 4)", 23),
    ("math.isNaN(0.0 / 0.0)", True),
    ("math.trunc(-1.7)", -1.0),
]
LISTS = [
    ("[1, 2, 3].sum() + [3, 1].max() - [3, 1].min()", 8),
    ("[duration('1m'), duration('1s')].sum() == duration('61s')", True),
    ("['a', 'c', 'b'].isSorted()", False),
    ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", 2),
    ("[3, 1, 2].sort()", [1, 2, 3]),
    ("[1, 2, 2].distinct()", [1, 2]),
    ("[[1], [2, 3]].flatten()", [1, 2, 3]),
    ("lists.range(3).slice(1, 3)", [1, 2]),
    ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", True),
]
KUBERNETES = [
    ("url('https://user@example.com:80/a b?x=1&x=2'.replace(' ', '%20')).getHost()", "example.com:80"),
    ("url('https://[::1]:80/').getHostname()", "::1"),
    ("url('https://example.com:80/').getPort() + url('/path').getScheme()", "80"),
    ("url('https://example.com/path with spaces/'.replace(' ', '%20')).getEscapedPath()", "/path%20with%20spaces/"),
    ("url('/?k1=a&k2=b&k2=c').getQuery()", {"k1": ["a"], "k2": ["b", "c"]}),
    ("isURL('https://x') && isURL('/x') && !isURL('x') && !isURL('../x')", True),
    (
        "isURL('mailto:a@b') && isURL('http://') && !isURL('https://a:b/') && !isURL('https://[::1/') && !isURL('')",
        True,
    ),
    ("quantity('5Gi').isGreaterThan(quantity('500Mi'))", True),
    ("quantity('1') == quantity('1000m')", True),
    ("quantity('50k').add(20).asInteger()", 50020),
    ("quantity('200M').compareTo(quantity('0.2G'))", 0),
    ("quantity('1.5').isInteger() || isQuantity('x')", False),
    ("quantity('500m').asApproximateFloat()", 0.5),
    ("ip('192.168.0.1').family() + ip('::1').family()", 10),
    ("ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('10.0.0.1').isGlobalUnicast()", True),
    ("ip.isCanonical('2001:DB8::1')", False),
    ("string(ip('2001:DB8::1'))", "2001:db8::1"),
    ("isIP('127.0.0.256') || isIP('::ffff:1.2.3.4')", False),
    ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", True),
    ("string(cidr('10.1.2.3/8').masked()) + string(cidr('10.1.2.3/8').prefixLength())", "10.0.0.0/88"),
    ("type(ip('::1')) == net.IP && cidr('::1/128').ip() == ip('::1')", True),
    ("format.dns1123Label().validate('name').hasValue()", False),
    ("format.dns1123Label().validate('Name').value().size()", 1),
    ("format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", False),
    ("!format.datetime().validate('2021-01-01T00:00:00Z').hasValue() && format.date().validate('x').hasValue()", True),
    ("semver('1.2.3-alpha.2').isLessThan(semver('1.2.3-alpha.10'))", True),
    ("semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1'))", True),
    ("semver('v01.2', true).minor()", 2),
    ("isSemver('1.2') || isSemver('v1.0.0')", False),
]


@pytest.mark.parametrize(
    ("expression", "value"),
    OPERATORS + MACROS + OPTIONALS + CONVERSIONS + STRINGS + NUMBERS + LISTS + KUBERNETES,
)
def test_expressions_have_the_values_kubernetes_gives_them(expression: str, value: Any) -> None:
    found = evaluate(expression)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("self.y", "no such key: y"),
        ("self.list[7]", "index out of bounds: 7"),
        ("number / 0", "division by zero"),
        ("number % 0", "modulus by zero"),
        ("9223372036854775807 + number", "integer overflow"),
        ("self.x.y", "no such overload"),
        ("self.x + 'a'", "no such overload"),
        ("self.map.all(k, self.x)", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("int(-double(9223372036854775807))", "integer overflow"),
        ("int(text)", 'strconv.ParseInt: parsing "hello": invalid syntax'),
        ("text.substring(3, 2)", "invalid substring range. start: 3, end: 2"),
        ("text.charAt(9)", "index out of range: 9"),
        ("[1].filter(v, false).min()", "min called on empty list"),
        ("quantity(text).sign()", "quantities must match the regular expression"),
        ("ip(text).family()", 'IP Address "hello" parse error during conversion from string'),
    ],
)
def test_what_fails_says_why(expression: str, error: str) -> None:
    with pytest.raises(CelError) as caught:
        evaluate(expression)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("text + 1", "1:6: found no matching overload for '_+_' applied to '(string, int)'\n | text + 1\n | .....^"),
        ("selff.x", "1:1: undeclared reference to 'selff' (in container '')\n | selff.x\n | ^"),
        ("text.foo", "1:5: type 'string' does not support field selection\n | text.foo\n | ....^"),
        ("nope(1)", "1:5: undeclared reference to 'nope' (in container '')\n | nope(1)\n | ....^"),
        ("[1, 'a']", "1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("ip('').foo()", "1:11: undeclared reference to 'foo' (in container '')\n | ip('').foo()\n | ..........^"),
        ("text.matches('(')", "1:14: invalid matches argument\n | text.matches('(')\n | .............^"),
        ("duration('1x')", "1:10: invalid duration argument\n | duration('1x')\n | .........^"),
        ("1 ==\n  'a'", "1:3: found no matching overload for '_==_' applied to '(int, string)'\n | 1 ==\n | ..^"),
    ],
)  # fmt: skip
def test_errors_of_compilation_read_as_cel_go_writes_them(expression: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(expression)
    assert str(caught.value) == f"compilation failed: ERROR: <input>:{message}"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "quantity('1').isGreaterThan('x')",
            "found no matching overload for 'isGreaterThan' applied to 'kubernetes.Quantity.(string)'",
        ),
        (
            "number.all(v, v)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("authorizer.check('x')", "undeclared reference to 'authorizer' (in container '')"),
    ],
)
def test_types_are_named_in_errors(expression: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(expression)
    assert message in str(caught.value)


def test_syntax_errors_point_at_their_place() -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile("1 +")
    assert str(caught.value).startswith(
        "compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{',"
    )


def test_a_machine_without_the_parser_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    syntax._parser.cache_clear()
    with pytest.raises(CompileError, match="compilation failed: this server cannot read CEL"):
        ENVIRONMENT.compile("1 == 1")


def test_functions_come_with_their_minor() -> None:
    with pytest.raises(CompileError, match="undeclared reference to 'semver'"):
        Environment(32, {}).compile("semver('1.0.0').major()")
    with pytest.raises(CompileError, match="must evaluate to a bool"):
        ENVIRONMENT.compile("number", (DYN,), "must evaluate to a bool")
