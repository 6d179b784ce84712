//! The parsed template with Python's meaning in place of minijinja's: operators, attributes, subscripts and calls of
//! methods become calls of the functions in operators.rs, whose names no template can write.
//!
//! The tree cannot be changed in place, so it is built anew. Names of functions begin with "%".

use super::value::{fail, Result};
use minijinja::machinery::ast::*;
use minijinja::machinery::Span;
use minijinja::value::Value;

pub struct Rewriter<'a> {
    pub source: &'a str,
}

fn constant<'a>(value: impl Into<Value>, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value: value.into() }, span))
}

fn call<'a>(name: &'a str, args: Vec<CallArg<'a>>, span: Span) -> Expr<'a> {
    let expr = Expr::Var(Spanned::new(Var { id: name }, span));
    Expr::Call(Spanned::new(Call { expr, args }, span))
}

fn call_with<'a>(name: &'a str, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    call(name, args.into_iter().map(CallArg::Pos).collect(), span)
}

/// What an error calls an expression.
fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Var(var) => var.id.to_string(),
        Expr::GetAttr(attr) => format!("{}.{}", describe(&attr.expr), attr.name),
        Expr::GetItem(item) => match &item.subscript_expr {
            Expr::Const(key) => format!("{}[{}]", describe(&item.expr), super::value::repr(&key.value)),
            _ => format!("{}[…]", describe(&item.expr)),
        },
        other => format!("the {}", other.description()),
    }
}

impl<'a> Rewriter<'a> {
    pub fn body(&self, statements: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>> {
        statements.iter().map(|statement| self.statement(statement)).collect()
    }

    pub fn statement(&self, statement: &Stmt<'a>) -> Result<Stmt<'a>> {
        Ok(match statement {
            Stmt::Template(it) => {
                Stmt::Template(Spanned::new(Template { children: self.body(&it.children)? }, it.span()))
            }
            Stmt::EmitExpr(it) => {
                Stmt::EmitExpr(Spanned::new(EmitExpr { expr: self.expr(&it.expr)? }, it.span()))
            }
            Stmt::EmitRaw(it) => Stmt::EmitRaw(Spanned::new(EmitRaw { raw: it.raw }, it.span())),
            Stmt::ForLoop(it) => Stmt::ForLoop(Spanned::new(
                ForLoop {
                    target: self.target(&it.target)?,
                    iter: call_with("%iterate", vec![self.expr(&it.iter)?], it.iter.span()),
                    filter_expr: self.optional(&it.filter_expr)?,
                    recursive: it.recursive,
                    body: self.body(&it.body)?,
                    else_body: self.body(&it.else_body)?,
                },
                it.span(),
            )),
            Stmt::IfCond(it) => Stmt::IfCond(Spanned::new(
                IfCond {
                    expr: self.expr(&it.expr)?,
                    true_body: self.body(&it.true_body)?,
                    false_body: self.body(&it.false_body)?,
                },
                it.span(),
            )),
            Stmt::WithBlock(it) => {
                let assignments = it
                    .assignments
                    .iter()
                    .map(|(target, expr)| Ok((self.target(target)?, self.expr(expr)?)))
                    .collect::<Result<_>>()?;
                Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: self.body(&it.body)? }, it.span()))
            }
            Stmt::Set(it) => Stmt::Set(Spanned::new(
                Set { target: self.target(&it.target)?, expr: self.expr(&it.expr)? },
                it.span(),
            )),
            Stmt::SetBlock(it) => Stmt::SetBlock(Spanned::new(
                SetBlock {
                    target: self.target(&it.target)?,
                    filter: self.optional(&it.filter)?,
                    body: self.body(&it.body)?,
                },
                it.span(),
            )),
            Stmt::AutoEscape(it) => Stmt::AutoEscape(Spanned::new(
                AutoEscape { enabled: self.expr(&it.enabled)?, body: self.body(&it.body)? },
                it.span(),
            )),
            Stmt::FilterBlock(it) => Stmt::FilterBlock(Spanned::new(
                FilterBlock { filter: self.expr(&it.filter)?, body: self.body(&it.body)? },
                it.span(),
            )),
            Stmt::Block(it) => Stmt::Block(Spanned::new(
                Block { name: it.name, required: it.required, body: self.body(&it.body)? },
                it.span(),
            )),
            Stmt::Macro(it) => Stmt::Macro(Spanned::new(self.declaration(it)?, it.span())),
            Stmt::CallBlock(it) => {
                // The call stays a call, whose caller minijinja hands on, so only its arguments change.
                let args = self.args(&it.call.args)?;
                let expr = self.callee(&it.call.expr)?;
                Stmt::CallBlock(Spanned::new(
                    CallBlock {
                        call: Spanned::new(Call { expr, args }, it.call.span()),
                        macro_decl: Spanned::new(self.declaration(&it.macro_decl)?, it.macro_decl.span()),
                    },
                    it.span(),
                ))
            }
            Stmt::Continue(it) => Stmt::Continue(Spanned::new(Continue, it.span())),
            Stmt::Break(it) => Stmt::Break(Spanned::new(Break, it.span())),
            Stmt::Do(_) => return fail("Encountered unknown tag 'do'."),
            Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
                return fail("a chat template cannot include, import or extend another template");
            }
        })
    }

    fn declaration(&self, it: &Macro<'a>) -> Result<Macro<'a>> {
        Ok(Macro {
            name: it.name,
            args: it.args.iter().map(|arg| self.target(arg)).collect::<Result<_>>()?,
            defaults: self.exprs(&it.defaults)?,
            body: self.body(&it.body)?,
        })
    }

    fn optional(&self, expr: &Option<Expr<'a>>) -> Result<Option<Expr<'a>>> {
        expr.as_ref().map(|expr| self.expr(expr)).transpose()
    }

    fn exprs(&self, list: &[Expr<'a>]) -> Result<Vec<Expr<'a>>> {
        list.iter().map(|expr| self.expr(expr)).collect()
    }

    /// What an assignment assigns to stays as it is.
    fn target(&self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        Ok(match expr {
            Expr::Var(it) => Expr::Var(Spanned::new(Var { id: it.id }, it.span())),
            Expr::List(it) => {
                let items = it.items.iter().map(|item| self.target(item)).collect::<Result<_>>()?;
                Expr::List(Spanned::new(List { items }, it.span()))
            }
            Expr::GetAttr(it) if it.name.starts_with('_') => {
                return fail(format!("a namespace cannot have an attribute '{}' that begins with _", it.name));
            }
            Expr::GetAttr(it) => {
                Expr::GetAttr(Spanned::new(GetAttr { expr: self.target(&it.expr)?, name: it.name }, it.span()))
            }
            _ => return fail(format!("cannot assign to {}", describe(expr))),
        })
    }

    /// What `{% call %}` calls: a macro, or one that another value holds.
    fn callee(&self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        match expr {
            Expr::Var(it) => Ok(Expr::Var(Spanned::new(Var { id: it.id }, it.span()))),
            _ => self.expr(expr),
        }
    }

    fn args(&self, args: &[CallArg<'a>]) -> Result<Vec<CallArg<'a>>> {
        args.iter()
            .map(|arg| {
                Ok(match arg {
                    CallArg::Pos(expr) => CallArg::Pos(self.expr(expr)?),
                    CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, self.expr(expr)?),
                    CallArg::PosSplat(expr) => CallArg::PosSplat(self.expr(expr)?),
                    CallArg::KwargSplat(expr) => CallArg::KwargSplat(self.expr(expr)?),
                })
            })
            .collect()
    }

    pub fn expr(&self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        let span = expr.span();
        Ok(match expr {
            Expr::Var(it) => Expr::Var(Spanned::new(Var { id: it.id }, span)),
            Expr::Const(it) => constant(it.value.clone(), span),
            Expr::Slice(it) => {
                let mut args = vec![self.expr(&it.expr)?];
                for bound in [&it.start, &it.stop, &it.step] {
                    args.push(self.optional(bound)?.unwrap_or_else(|| constant((), span)));
                }
                call_with("%slice", args, span)
            }
            Expr::UnaryOp(it) => match it.op {
                UnaryOpKind::Not => Expr::UnaryOp(Spanned::new(
                    UnaryOp { op: UnaryOpKind::Not, expr: self.expr(&it.expr)? },
                    span,
                )),
                UnaryOpKind::Neg => call_with("%negative", vec![self.expr(&it.expr)?], span),
            },
            Expr::BinOp(it) => {
                let (left, right) = (self.expr(&it.left)?, self.expr(&it.right)?);
                let name = match it.op {
                    BinOpKind::ScAnd | BinOpKind::ScOr => {
                        // A constant would be folded with minijinja's meaning: `0 and x` gives 0, not false.
                        let left = call_with("%same", vec![left], span);
                        return Ok(Expr::BinOp(Spanned::new(BinOp { op: it.op, left, right }, span)));
                    }
                    BinOpKind::Eq => "%==",
                    BinOpKind::Ne => "%!=",
                    BinOpKind::Lt => "%<",
                    BinOpKind::Lte => "%<=",
                    BinOpKind::Gt => "%>",
                    BinOpKind::Gte => "%>=",
                    BinOpKind::Add => "%+",
                    BinOpKind::Sub => "%-",
                    BinOpKind::Mul => "%*",
                    BinOpKind::Div => "%/",
                    BinOpKind::FloorDiv => "%//",
                    BinOpKind::Rem => "%%",
                    BinOpKind::Pow => "%**",
                    BinOpKind::Concat => "%~",
                    BinOpKind::In => "%in",
                };
                call_with(name, vec![left, right], span)
            }
            Expr::Compare(it) => {
                let mut args = vec![self.expr(&it.expr)?];
                for step in &it.ops {
                    let name = match step.op {
                        CompareOpKind::Eq => "%==",
                        CompareOpKind::Ne => "%!=",
                        CompareOpKind::Lt => "%<",
                        CompareOpKind::Lte => "%<=",
                        CompareOpKind::Gt => "%>",
                        CompareOpKind::Gte => "%>=",
                        CompareOpKind::In => "%in",
                        CompareOpKind::NotIn => "%not in",
                    };
                    if it.ops.len() == 1 {
                        args.push(self.expr(&step.expr)?);
                        return Ok(call_with(name, args, span));
                    }
                    args.push(constant(name, span));
                    args.push(self.expr(&step.expr)?);
                }
                call_with("%compare", args, span)
            }
            Expr::IfExpr(it) => Expr::IfExpr(Spanned::new(
                IfExpr {
                    test_expr: self.expr(&it.test_expr)?,
                    true_expr: self.expr(&it.true_expr)?,
                    false_expr: self.optional(&it.false_expr)?,
                },
                span,
            )),
            Expr::Filter(it) => Expr::Filter(Spanned::new(
                Filter { name: it.name, expr: self.optional(&it.expr)?, args: self.args(&it.args)? },
                span,
            )),
            Expr::Test(it) => Expr::Test(Spanned::new(
                Test { name: it.name, expr: self.expr(&it.expr)?, args: self.args(&it.args)? },
                span,
            )),
            Expr::GetAttr(it) => call_with(
                "%attribute",
                vec![self.expr(&it.expr)?, constant(it.name, span), constant(describe(&it.expr), span)],
                span,
            ),
            Expr::GetItem(it) => call_with(
                "%item",
                vec![self.expr(&it.expr)?, self.expr(&it.subscript_expr)?, constant(describe(&it.expr), span)],
                span,
            ),
            Expr::Call(it) => match it.identify_call() {
                CallType::Function(name) => call(name, self.args(&it.args)?, span),
                CallType::Block(name) => {
                    let block = Spanned::new(
                        GetAttr { expr: Expr::Var(Spanned::new(Var { id: "self" }, span)), name },
                        span,
                    );
                    Expr::Call(Spanned::new(
                        Call { expr: Expr::GetAttr(block), args: self.args(&it.args)? },
                        span,
                    ))
                }
                CallType::Method(of, name) => {
                    let mut args = vec![CallArg::Pos(self.expr(of)?), CallArg::Pos(constant(name, span))];
                    args.extend(self.args(&it.args)?);
                    call("%method", args, span)
                }
                CallType::Object(of) => Expr::Call(Spanned::new(
                    Call { expr: self.expr(of)?, args: self.args(&it.args)? },
                    span,
                )),
            },
            Expr::List(it) => {
                let items = self.exprs(&it.items)?;
                match self.source.as_bytes().get(span.start_offset as usize) {
                    Some(b'[') => Expr::List(Spanned::new(List { items }, span)),
                    _ => call_with("%tuple", items, span),
                }
            }
            Expr::Map(it) => Expr::Map(Spanned::new(
                Map { keys: self.exprs(&it.keys)?, values: self.exprs(&it.values)? },
                span,
            )),
        })
    }
}
