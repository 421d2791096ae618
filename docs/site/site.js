// Wide tables can be scrolled by keyboard; the theme wraps them when a page has loaded.
const reach = () => document.querySelectorAll(".md-typeset__scrollwrap").forEach((table) => {
  table.tabIndex = 0;
});
new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
reach();
