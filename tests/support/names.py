"""Names that mean something to a file system, a shell, a template, a spreadsheet or a database."""

NAMES = [
    "..", "../x", "..\\x", "%2e%2e%2f", "%252e%252e%252f", "..;/", "/etc/x", "//x", "C:\\x", "\\\\host\\x", "file:///x",
    "a/../../x", "a\0b", "a%00b", ".", "", "x" * 256, "x" * 5000, "x.", "x ", "CON", "~root", "$HOME", "{{7*7}}", "${7*7}",
    "$(id)", "`id`", "a;id", "a\nb", "a\r\nX: y", "<script>", '"><img>', "=1+1", "@x", "\u200fx", "e\u0301", "é", "．．／x", "__proto__", "None",
    "NaN", "-rf", "--help", "' OR 1=1 --", '"; DROP TABLE run', "😀", "a@b@c", "x@v0", "x@v-1", "x@v99999999999", "?x", "#x", "x" * 101, "%", "%zz",
]  # fmt: skip
