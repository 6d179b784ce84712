use lakh_text::template::Template;
use serde_json::{json, Value};
fn aliases(_m: &mut Value) {}
fn main() {
    let dir = "/tmp/tpl/";
    let convs: Value = serde_json::from_str(&std::fs::read_to_string(format!("{dir}convs.json")).unwrap()).unwrap();
    let refs: Value = serde_json::from_str(&std::fs::read_to_string(format!("{dir}ref.json")).unwrap()).unwrap();
    let (mut same, mut both, mut differs, mut ours, mut theirs) = (0,0,0,0,0);
    for (name, rows) in refs.as_object().unwrap() {
        let src = std::fs::read_to_string(format!("{dir}templates/{name}.jinja")).unwrap();
        let t = Template::new(&src);
        for (k, r) in rows.as_object().unwrap() {
            let (conv, g) = k.split_once('|').unwrap();
            let c = &convs[conv];
            let mut vars = json!({"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>","pad_token":"<pad>","tools":null,"documents":null,"%now":[2025,3,7,9,5,3,0]});
            vars["messages"] = c["messages"].clone();
            for m in vars["messages"].as_array_mut().unwrap() { let ks = ["reasoning","reasoning_content","thinking"]; let f = ks.iter().find_map(|k| m.get(k).filter(|v| !v.is_null()).cloned()); if let Some(f) = f { for k in ks { if m.get(k).is_none() { m[k] = f.clone(); } } } aliases(m); }
            vars["add_generation_prompt"] = json!(g == "1");
            if !c["tools"].is_null() { vars["tools"] = c["tools"].clone(); }
            if let Some(v) = c["vars"].as_object() { for (a,b) in v { vars[a] = b.clone(); } }
            let got = match &t { Ok(t) => t.render(&vars.to_string()), Err(e) => Err(format!("PARSE {e}")) };
            match (r.get("ok").and_then(|x| x.as_str()), got) {
                (Some(w), Ok(g)) if w == g => same += 1,
                (Some(w), Ok(g)) => { differs += 1; let p = w.bytes().zip(g.bytes()).take_while(|(a,b)| a==b).count(); let cut = |s: &str| String::from_utf8_lossy(&s.as_bytes()[p.saturating_sub(30)..(p+60).min(s.len())]).to_string(); println!("DIFF {name} {k}\n   want {:?}\n   got  {:?}", cut(w), cut(&g)); }
                (None, Err(_)) => both += 1,
                (Some(_), Err(e)) => { ours += 1; println!("OURS {name} {k} {:.160}", e); }
                (None, Ok(_)) => { theirs += 1; println!("THEIRS {name} {k} {}", r["err"]); }
            }
        }
    }
    println!("same {same} both-refuse {both} differs {differs} only-we-refuse {ours} only-python-refuses {theirs}");
}
