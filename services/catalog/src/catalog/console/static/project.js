// The project that a page shows goes with every address that a script makes.
const project = new URLSearchParams(location.search).get("project");

export function within(address) {
  if (!project) return address;
  return `${address}${address.includes("?") ? "&" : "?"}project=${encodeURIComponent(project)}`;
}
