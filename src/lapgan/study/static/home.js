// Offers to go on with a sitting that was begun in this browser.
"use strict";
const begun = localStorage.getItem("lapgan-study-token");
if (begun) {
  document.getElementById("go-on-link").href = `/sitting#${begun}`;
  document.getElementById("go-on").hidden = false;
}
