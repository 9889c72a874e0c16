//! Tests the parser of filters: what it accepts, where it reports mistakes, and that printing reverses it.

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Expr {
    Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn compare(field: &str, operator: Operator, values: &[Operand]) -> Expr {
    Expr::Compare(Comparison { field: field.into(), operator, values: values.to_vec(), column: 1 })
}

fn word(text: &str) -> Operand {
    Operand::Word(text.into())
}

fn quoted_text(text: &str) -> Operand {
    Operand::Quoted(text.into())
}

#[test]
fn comparisons_take_words_and_quoted_texts() {
    use Operator::*;
    for (text, field, operator, values) in [
        ("kind=table", "kind", Equal, &[word("table")][..]),
        (" page >= 3 ", "page", AtLeast, &[word("3")]),
        ("a!=x", "a", NotEqual, &[word("x")]),
        ("source^=file:///a=b/,c", "source", Prefix, &[word("file:///a=b/,c")]),
        ("n<5", "n", Below, &[word("5")]),
        ("n<=5", "n", AtMost, &[word("5")]),
        ("n>5", "n", Above, &[word("5")]),
        ("language=eng, deu,", "language", Equal, &[word("eng"), word("deu"), word("")]),
        ("source=My report (2).pdf", "source", Equal, &[word("My report (2).pdf")]),
        ("source=half)", "source", Equal, &[word("half)")]),
        ("name=O'Neil \"x\" \\", "name", Equal, &[word("O'Neil \"x\" \\")]),
        ("title=war and peace", "title", Equal, &[word("war and peace")]),
        ("title=rock and \"roll\"", "title", Equal, &[word("rock and \"roll\"")]),
        ("title=this or that, and more", "title", Equal, &[word("this or that"), word("and more")]),
        ("owner=\"Ruiz, Eva\"", "owner", Equal, &[quoted_text("Ruiz, Eva")]),
        ("owner='a \"b\" \\n', c", "owner", Equal, &[quoted_text("a \"b\" \\n"), word("c")]),
        (r#"t="\"\\\n\u{e9}\u{1F600}\'""#, "t", Equal, &[quoted_text("\"\\\né😀'")]),
        ("t=\"\"", "t", Equal, &[quoted_text("")]),
        ("t=", "t", Equal, &[word("")]),
        ("metadata.\"a=b\"=c", "metadata.a=b", Equal, &[word("c")]),
        ("metadata.'x y'.\"z.\" > 3", "metadata.x y.z.", Above, &[word("3")]),
        ("\"not\"=3", "not", Equal, &[word("3")]),
        ("not=3", "not", Equal, &[word("3")]),
        ("metadata.first name=x", "metadata.first name", Equal, &[word("x")]),
        ("t=\"a and b=c\"", "t", Equal, &[quoted_text("a and b=c")]),
    ] {
        assert_eq!(parsed(text), compare(field, operator, values), "{text}");
    }
}

#[test]
fn conditions_are_combined() {
    let is = |field: &str, value: &str| compare(field, Operator::Equal, &[word(value)]);
    let not = |part: Expr| Expr::Not(Box::new(part));
    for (text, expected) in [
        ("a=1 and b=2 and c=3", Expr::All(vec![is("a", "1"), is("b", "2"), is("c", "3")])),
        ("a=1 or b=2 and c=3", Expr::Any(vec![is("a", "1"), Expr::All(vec![is("b", "2"), is("c", "3")])])),
        ("(a=1 or b=2) and c=3", Expr::All(vec![Expr::Any(vec![is("a", "1"), is("b", "2")]), is("c", "3")])),
        ("not a=1 and b=2", Expr::All(vec![not(is("a", "1")), is("b", "2")])),
        ("not(a=1 and not b=2)", not(Expr::All(vec![is("a", "1"), not(is("b", "2"))]))),
        ("((a=x (y) z))", is("a", "x (y) z")),
        ("(a=x)and(b=y)", Expr::All(vec![is("a", "x"), is("b", "y")])),
        ("a=salt and pepper and b=2", Expr::All(vec![is("a", "salt and pepper"), is("b", "2")])),
        ("a=x and not (b=2)", Expr::All(vec![is("a", "x"), not(is("b", "2"))])),
        (
            "a='x' and metadata.\"b c\"=2",
            Expr::All(vec![compare("a", Operator::Equal, &[quoted_text("x")]), is("metadata.b c", "2")]),
        ),
        ("a=x and b = 2", Expr::All(vec![is("a", "x"), is("b", "2")])),
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_position() {
    let deep = format!("{}a=1", "(".repeat(70));
    let negated = format!("{}a=1", "not ".repeat(70));
    let long = format!("a={}", "x".repeat(MAX_BYTES));
    for (text, column, reason) in [
        ("", 1, "`` is not a filter"),
        ("eng", 1, "`eng` is not a filter"),
        ("=3", 1, "`=3` is not a filter"),
        ("page!3", 1, "is not a filter; write FIELD=VALUE"),
        ("(a=1) and (b)", 12, "`b)` is not a filter"),
        ("é=1 or (b=2", 8, "this parenthesis is not closed"),
        ("(a=1) b=2", 7, "expected `and`, `or` or the end"),
        ("a=\"x", 3, "this quote is not closed; close it, or put the whole value in '"),
        ("é='x", 3, "this quote is not closed; close it, or put the whole value in \""),
        ("a=\"x\"y", 6, "quote the whole value"),
        ("a>\"x\",y", 6, "after the closing quote"),
        ("a=\"\\d\"", 4, "unknown escape"),
        ("a=\"\\u{110000}\"", 4, "unknown escape"),
        ("\"a b\" c=1", 6, "expected an operator"),
        (deep.as_str(), 66, "more than 64 parentheses"),
        (negated.as_str(), 261, "more than 64 parentheses"),
        (long.as_str(), MAX_BYTES + 1, "at most 65536 are allowed"),
    ] {
        let error = Expr::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
        assert!(error.to_string().len() < 400, "{error}");
    }
    let refused = parsed("a=1 or not bad=2").filter(&|one| match one.field.as_str() {
        "bad" => Err("no such field".to_owned()),
        _ => Ok(one.filter()),
    });
    assert_eq!(refused, Err(SyntaxError { column: 12, reason: "no such field".into() }));
}

fn operands() -> impl Strategy<Value = Operand> {
    // A word keeps its meaning wherever it stands if it has no comma, quote, bracket or operator.
    let word = "([a-z0-9.é/:%&+-]{1,6}( (and|or|not|x)){0,2}( [a-z0-9]{1,4})?)?".prop_map(Operand::Word);
    prop_oneof![word, any::<String>().prop_map(Operand::Quoted)]
}

fn exprs() -> impl Strategy<Value = Expr> {
    let field = prop_oneof![
        Just("page".to_owned()),
        Just("not".to_owned()),
        Just("and".to_owned()),
        "metadata\\.[a-z.]{1,6}",
        any::<String>().prop_filter("a field has a name", |name| !name.is_empty()),
    ];
    let operator = (0..Operator::ALL.len()).prop_map(|at| Operator::ALL[at]);
    let comparison =
        (field, operator, proptest::collection::vec(operands(), 1..4)).prop_map(|(field, operator, mut values)| {
            if !operator.takes_list() {
                values.truncate(1);
            }
            compare(&field, operator, &values)
        });
    comparison.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::All),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Any),
            inner.prop_map(|part| Expr::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed_again(expr in exprs()) {
        let text = expr.to_string();
        let again = Expr::parse(&text);
        prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(
        text in prop_oneof![
            any::<String>(),
            "(a|b c|not|and|or|[ ()=<>!^,.]|\"|'|\\\\){0,40}",
            "(a=1|\\(|\\)| and | or |not |b='x'|,|=|\"q\"){0,24}",
        ],
    ) {
        match Expr::parse(&text) {
            Ok(expr) => prop_assert_eq!(Expr::parse(&expr.to_string()), Ok(expr), "{}", text),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}: {}", text, error),
        }
    }
}

#[test]
fn long_filters_are_parsed_quickly() {
    for piece in ["x and ", "x and \"", "x and '\\\"", "x and (", "x and metadata.\"", "(", "not ", "a,", "\\u{"] {
        let text = format!("a={}", piece.repeat(MAX_BYTES / piece.len() - 1));
        let started = std::time::Duration::from_secs(5);
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(Expr::parse(&text).is_ok()));
        assert!(wait.recv_timeout(started).is_ok(), "{piece}");
    }
}
