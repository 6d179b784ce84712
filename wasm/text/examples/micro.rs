use lakh_text::template::Template;
fn main() {
    let rows: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap()).unwrap();
    let (mut right, mut wrong) = (0, 0);
    for r in rows {
        let t = r["template"].as_str().unwrap();
        let mut vars = r["vars"].clone();
        vars["%now"] = serde_json::json!([2025,3,7,9,5,3,0]);
        let got = Template::new(t).and_then(|t| t.render(&vars.to_string()));
        let ok = match (r.get("want"), &got) { (Some(w), Ok(g)) => w.as_str() == Some(g.as_str()), (None, Err(_)) => true, _ => false };
        if ok { right += 1 } else { wrong += 1; println!("{} want {} got {}", serde_json::to_string(t).unwrap(), r.get("want").map(|w| w.to_string()).unwrap_or("refused".into()), match &got { Ok(g) => serde_json::to_string(g).unwrap(), Err(e) => format!("ERR {:.200}", e.to_string()) }); }
    }
    println!("{right} passed, {wrong} failed");
}
