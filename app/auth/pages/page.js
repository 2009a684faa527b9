// Hands the token of a mail's link over to the API, once the button is pressed.

const PATIENCE_SECONDS = 40; // The service itself gives up after 30.
const form = document.querySelector("form");
const answer = document.querySelector("#answer");
const otherwise = document.querySelector("#otherwise");
const { new_password: password, show: shown } = form.elements;

// Whoever has the token has the account. From here on it is in this script alone: not in the
// address bar, out of which people copy, and not in the browser's history.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
// Another link that is opened in this tab changes only the fragment, and loads nothing.
addEventListener("hashchange", () => location.reload());

function say(mood, ...content) {
  answer.className = mood;
  answer.replaceChildren(...content);
}

// The button has done its work, or can't do it any more.
function end(mood, name) {
  form.remove();
  otherwise.remove();
  say(mood, document.getElementById(name).content.cloneNode(true));
  answer.focus();
}

function refusePassword(why) {
  say("bad", why);
  password.setAttribute("aria-invalid", "true");
  password.focus();
}

function inWords(seconds) {
  return seconds < 100 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
}

function handOver() {
  return fetch(form.dataset.call, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(password ? { token, new_password: password.value } : { token }),
    // The browser may be signed in as somebody else, whom this isn't about.
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_SECONDS * 1000),
  });
}

async function tell(response) {
  if (response.ok) return end("good", "done");
  // What a proxy answers in the service's place isn't JSON.
  const told = await response.json().catch(() => null);
  const { code, message, details = {}, request_id: number } = told?.error ?? {};
  if (code === "INVALID_TOKEN" || details.token) return end("bad", "used");
  if (code === "WEAK_PASSWORD") return refusePassword(message);
  if (details.new_password) return refusePassword(details.new_password.join(" "));
  if (response.status === 429) {
    const wait = inWords(Number(response.headers.get("Retry-After") ?? 60));
    return say("bad", `That was one try too many. Wait ${wait}, then press the button again.`);
  }
  if (response.status === 503) {
    return say("bad", "The service is busy. Wait a moment, then press the button again.");
  }
  const named = number ? ` If it goes on, tell the people who run the app this number: ${number}` : "";
  return say("bad", `Something went wrong on our side. Please try again later.${named}`);
}

let busy = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  // The button stays as it is meanwhile: disabled it would lose the focus.
  if (busy) return;
  busy = true;
  password?.removeAttribute("aria-invalid");
  say("", "One moment …");
  try {
    await tell(await handOver());
  } catch {
    say("bad", "We can't reach the service. Check your connection, then press the button again.");
  }
  busy = false;
});

shown?.addEventListener("change", () => {
  password.type = shown.checked ? "text" : "password";
});

document.querySelector("#host").textContent = location.host;
if (token) form.hidden = otherwise.hidden = false;
else end("bad", "cut");
