"""The plainest expressions read without sqlglot, whose import costs more than the rest of a small run.

The language: a column, a number or a text; two of them with one operator between; or one aggregate over columns (or one operator over
them)::

    expression = operand | aggregate
    operand    = value [operator value]         operator = one of  + - * / % = <> != < <= > >=
    aggregate  = NAME "(" [ "*" | "DISTINCT" column | argument {"," argument} ] ")"

Invariant: a text is read here only if sqlglot gives the very same tree; whatever is in doubt (keywords, escapes, comments, letters beyond
ASCII, an exponent) is left to the full parser, so every message about a bad text comes from one place.
"""

from __future__ import annotations

import re

from asyncflow.model.schema import DataType
from asyncflow.plan.expressions.functions import AGGREGATES, ALIASES
from asyncflow.plan.expressions.nodes import Aggregate, Call, ColumnRef, Expression, Literal

MAX_PLAIN = 400
"""Characters; a longer text is worth a parser."""

_WORDS = """
ALL ALTER ANALYZE AND ANTI ANY APPLY ARRAY AS ASC ASOF ATTACH AUTOINCREMENT AUTO_INCREMENT BEGIN BETWEEN BIGDECIMAL BIGINT BIGNUM
BIGNUMERIC BIGSERIAL BINARY BIT BITSTRING BLOB BOOL BOOLEAN BPCHAR BY BYTE BYTEA CACHE CALL CASE CAST CHAR CHARACTER CLOB COLLATE COLUMN
COLUMNS COMMENT COMMIT CONNECT CONSTRAINT COPY CREATE CROSS CUBE CURRENT CURRENT_CATALOG CURRENT_DATE CURRENT_DATETIME CURRENT_ROLE
CURRENT_SCHEMA CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATABASE DATE DATEMULTIRANGE DATERANGE DATETIME DATETIME2 DATETIME64 DEC
DECFLOAT DECIMAL DECIMAL128 DECIMAL256 DECIMAL32 DECIMAL64 DEFAULT DELETE DESC DESCRIBE DETACH DISCONNECT DISTINCT DIV DOUBLE DROP ELSE
END ENUM ESCAPE EXCEPT EXECUTE EXISTS EXPLAIN EXTRACT FALSE FETCH FILE FILTER FINAL FIRST FIXED FLOAT FLOAT4 FLOAT8 FOR FORCE FORMAT
FROM FULL FUNCTION GEOGRAPHY GEOMETRY GLOB GRANT GROUP HAVING HUGEINT IF ILIKE IN INDEX INET INNER INSERT INSTALL INT INT1 INT128 INT16
INT2 INT256 INT32 INT4 INT4MULTIRANGE INT4RANGE INT64 INT8 INT8MULTIRANGE INT8RANGE INTEGER INTERSECT INTERVAL INTO INTRODUCER IS ISNULL
JOIN JSON JSONB KEEP KILL LAMBDA LATERAL LEFT LIKE LIMIT LIST LOAD LOCALTIME LOCALTIMESTAMP LOCK LOGICAL LONG LONGBLOB LONGTEXT
LONGVARCHAR MACRO MAP MATCH MATCH_RECOGNIZE MEDIUMBLOB MEDIUMINT MEDIUMTEXT MERGE MONEY NAME NAMESPACE NATURAL NCHAR NESTED NEXT NOT
NOTNULL NULL NULLABLE NUMBER NUMERIC NUMMULTIRANGE NUMRANGE NVARCHAR NVARCHAR2 OBJECT OF OFFSET ON ONLY OPERATOR OPTIMIZE OR ORDER
ORDINALITY OUT OUTER OVER OVERLAPS OVERWRITE PARTITION PARTITIONED_BY PERCENT PIVOT PIVOT_WIDER POSITIONAL PRAGMA PREPARE PRIOR
PROCEDURE QUALIFY RANGE REAL RECURSIVE REF REFERENCES REGEXP RENAME REPLACE RESET RETURNING REVOKE RIGHT RLIKE ROLLBACK ROLLUP ROW ROWS
ROWVERSION SCHEMA SELECT SEMI SEQUENCE SERIAL SESSION SESSION_USER SET SETTINGS SHORT SHOW SIGNED SIMILAR SMALLINT SMALLMONEY
SMALLSERIAL SOME STR STRAIGHT_JOIN STRING STRUCT SUMMARIZE SUPER SYSDATE SYSTIMESTAMP TABLE TABLESAMPLE TEMP TEMPORARY TEXT THEN TIME
TIMESTAMP TIMESTAMPLTZ TIMESTAMPNTZ TIMESTAMPTZ TIMESTAMP_LTZ TIMESTAMP_MS TIMESTAMP_NS TIMESTAMP_NTZ TIMESTAMP_S TIMESTAMP_US TIMETZ
TIME_NS TINYBLOB TINYINT TINYTEXT TRIGGER TRUE TRUNCATE TRY_CAST TSMULTIRANGE TSRANGE TSTZMULTIRANGE TSTZRANGE UBIGINT UHUGEINT UINT
UINT128 UINT256 UINTEGER UNCACHE UNION UNIQUE UNIQUEIDENTIFIER UNKNOWN UNNEST UNPIVOT UPDATE USE USER USERDEFINED USING USMALLINT
UTINYINT UUID VACUUM VALUES VARBINARY VARCHAR VARCHAR2 VARIANT VECTOR VIEW VOLATILE WHEN WHERE WINDOW WITH XML XOR YEAR ZONE
"""
KEYWORDS = frozenset(_WORDS.split())
"""Words that sqlglot, or a dialect of it, may take for more than a name."""

_VALUE = r"""[A-Za-z_][A-Za-z0-9_]*|"[ !#-\[\]-~]+"|'[ -&(-\[\]-~]*'|[0-9]{1,18}(?:\.[0-9]{1,18})?"""
_BLANKS = " \t\r\n"
_SPACE = r"[ \t\r\n]*"
_OPERATOR = r"<>|!=|<=|>=|[-+*/%=<>]"
_OPERAND = re.compile(rf"{_SPACE}({_VALUE}){_SPACE}(?:({_OPERATOR}){_SPACE}({_VALUE}){_SPACE})?")
_AGGREGATE = re.compile(rf"{_SPACE}([A-Za-z_][A-Za-z0-9_]*)\(([^()]*)\){_SPACE}")
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod"}
_CALLS = _ARITHMETIC | {"=": "eq", "<>": "ne", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def plain_expression(text: str) -> Expression | None:
    """The expression, where it is one of the plainest; None where sqlglot has to read it.

    >>> plain_expression("sum(qty)"), plain_expression("a + b + c")
    (Aggregate(function='sum', args=(ColumnRef(name='qty'),), distinct=False, filter=None), None)
    """
    if len(text) > MAX_PLAIN:
        return None
    if match := _OPERAND.fullmatch(text):
        return _operand(match, _CALLS)
    if match := _AGGREGATE.fullmatch(text):
        return _aggregate(match[1].lower(), match[2])
    return None


def _aggregate(name: str, inside: str) -> Expression | None:
    name = ALIASES.get(name, name)
    if name not in AGGREGATES:
        return None
    written = inside.strip(_BLANKS)
    if not written or written == "*":
        return Aggregate(name, ()) if name == "count" else None
    distinct = written[:8].upper() == "DISTINCT" and written[8:9] in _BLANKS
    args: list[Expression] = []
    # A comma within quotes leaves parts that are no operands.
    for part in (written[9:] if distinct else inside).split(","):
        match = _OPERAND.fullmatch(part)
        arg = match and _operand(match, _ARITHMETIC)
        if not arg:
            return None
        args.append(arg)
    if distinct and not (len(args) == 1 and isinstance(args[0], ColumnRef)):
        return None
    return Aggregate(name, tuple(args), distinct)


def _operand(match: re.Match[str], calls: dict[str, str]) -> Expression | None:
    left = _value(match[1])
    if left is None or match[2] is None:
        return left
    right = _value(match[3])
    if right is None or match[2] not in calls:
        return None
    return Call(calls[match[2]], (left, right))


def _value(text: str) -> Expression | None:
    first = text[0]
    if first == '"':
        return ColumnRef(text[1:-1])
    if first == "'":
        return Literal(text[1:-1], DataType.STRING)
    if not first.isdigit():
        return None if text.upper() in KEYWORDS else ColumnRef(text)
    if "." in text:
        return Literal(float(text), DataType.FLOAT64)
    return Literal(int(text), DataType.INT64)
