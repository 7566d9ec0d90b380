// Shows the Ray cluster's token to the server, for a cookie. It goes in a header: an address stays in
// the browser's history, and the token lets whoever has it run programs.

const form = document.getElementById("sign-in");
const field = document.getElementById("token");
const problem = document.getElementById("problem");

// A wrong token that came with a link.
if (location.search) history.replaceState(null, "", `/${location.hash}`);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = await signIn(field.value.trim());
});

// Gives what is wrong; empty for nothing.
async function signIn(token) {
  const refused = "That is not the token of this Ray cluster.";
  // Nothing else can stand in a header.
  if (!/^[\x21-\x7e]+$/.test(token)) return refused;
  try {
    const response = await fetch("/", { cache: "no-store", headers: { Authorization: `Bearer ${token}` } });
    if (!response.ok) return refused;
  } catch {
    return "The server of this page does not answer.";
  }
  location.reload();
  return "";
}
