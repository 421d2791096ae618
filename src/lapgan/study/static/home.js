// Offers to continue a sitting that was started in this browser.
"use strict";
const begun = localStorage.getItem("lapgan-study-token");
if (begun) {
  document.getElementById("go-on-link").href = `/sitting#${begun}`;
  document.getElementById("go-on").hidden = false;
}
